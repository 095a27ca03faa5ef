//! Why the board's total is not shown, in words for people.

/// What is known where there is no total now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoTotal {
    /// Whether the total was read before.
    pub was_read: bool,
    /// Whether any power is measured now.
    pub has_power: bool,
    /// Whether some source has neither been read nor failed.
    pub is_starting: bool,
    /// Whether some source is not read now.
    pub has_unread: bool,
}

impl NoTotal {
    /// The reason: nothing measures the total, or what does is not read now.
    pub fn why(self) -> &'static str {
        match (self.has_power, self.has_unread) {
            _ if self.was_read => "the board's total is not read now",
            (true, false) => "no meter measures the board's total",
            (true, true) => "no meter that is read measures the board's total",
            (false, _) if self.is_starting => "reading ...",
            (false, false) => "no meter measures power",
            (false, true) => "no meter that measures power is read now",
        }
    }
}
