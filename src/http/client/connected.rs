//! Whether a connection was made: the last link of the chain of connectors. How a request failed does not say it, because
//! a timeout is one whatever was waited for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use ureq::unversioned::transport::{ConnectionDetails, Connector, Transport};

/// Passes on what is connected, and remembers that it is.
#[derive(Debug)]
pub(super) struct Connected(pub(super) Arc<AtomicBool>);

impl<In: Transport> Connector<In> for Connected {
    type Out = In;

    fn connect(
        &self,
        _details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<In>, ureq::Error> {
        self.0.fetch_or(chained.is_some(), Ordering::Relaxed);
        Ok(chained)
    }
}
