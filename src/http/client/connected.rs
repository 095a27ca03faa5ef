//! Records whether a connection was made, as the last link of ureq's chain of connectors. The error of a request does not
//! tell: a timeout looks the same before and after connecting.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use ureq::unversioned::transport::{ConnectionDetails, Connector, Transport};

/// Sets the flag when the connectors before this one have made a connection.
#[derive(Debug)]
pub(super) struct RecordConnected(pub(super) Arc<AtomicBool>);

impl<In: Transport> Connector<In> for RecordConnected {
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
