//! The messages of both generations as a protobuf library has them, for tests of the encoder:
//! prometheus.io/docs/specs/prw, remote_write_spec and remote_write_spec_2_0 (2.0-rc.4), as far as they are sent.

/// `prometheus.WriteRequest`.
pub(super) mod v1 {
    /// The whole of a request.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct WriteRequest {
        /// Each series once.
        #[prost(message, repeated, tag = "1")]
        pub(crate) timeseries: Vec<TimeSeries>,
    }

    /// Some samples of a series.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct TimeSeries {
        /// All of its labels, sorted by name.
        #[prost(message, repeated, tag = "1")]
        pub(crate) labels: Vec<Label>,
        /// Oldest first.
        #[prost(message, repeated, tag = "2")]
        pub(crate) samples: Vec<Sample>,
    }

    /// A label.
    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(crate) struct Label {
        /// Its name.
        #[prost(string, tag = "1")]
        pub(crate) name: String,
        /// Its value.
        #[prost(string, tag = "2")]
        pub(crate) value: String,
    }

    /// A sample.
    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Sample {
        /// Its value.
        #[prost(double, tag = "1")]
        pub(crate) value: f64,
        /// Milliseconds since 1970.
        #[prost(int64, tag = "2")]
        pub(crate) timestamp: i64,
    }
}

/// `io.prometheus.write.v2.Request`.
pub(super) mod v2 {
    /// The whole of a request.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Request {
        /// Every text once; the first is the empty one.
        #[prost(string, repeated, tag = "4")]
        pub(crate) symbols: Vec<String>,
        /// Each series once.
        #[prost(message, repeated, tag = "5")]
        pub(crate) timeseries: Vec<TimeSeries>,
    }

    /// Some samples of a series.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct TimeSeries {
        /// Name and value of each label in turn, as places in the symbols; sorted by name.
        #[prost(uint32, repeated, tag = "1")]
        pub(crate) labels_refs: Vec<u32>,
        /// Oldest first.
        #[prost(message, repeated, tag = "2")]
        pub(crate) samples: Vec<Sample>,
        /// What the series is.
        #[prost(message, optional, tag = "5")]
        pub(crate) metadata: Option<Metadata>,
    }

    /// A sample.
    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Sample {
        /// Its value.
        #[prost(double, tag = "1")]
        pub(crate) value: f64,
        /// Milliseconds since 1970.
        #[prost(int64, tag = "2")]
        pub(crate) timestamp: i64,
        /// Since when a counter counts, in milliseconds since 1970; 0: not known.
        #[prost(int64, tag = "3")]
        pub(crate) start_timestamp: i64,
    }

    /// What a series is.
    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub(crate) struct Metadata {
        /// Gauge or counter.
        #[prost(enumeration = "MetricType", tag = "1")]
        pub(crate) r#type: i32,
        /// The help, as a place in the symbols.
        #[prost(uint32, tag = "3")]
        pub(crate) help_ref: u32,
        /// The unit, as a place in the symbols.
        #[prost(uint32, tag = "4")]
        pub(crate) unit_ref: u32,
    }

    /// The types that there are here.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
    #[repr(i32)]
    pub(crate) enum MetricType {
        /// Not said.
        Unspecified = 0,
        /// A total that only grows.
        Counter = 1,
        /// A value that goes up and down.
        Gauge = 2,
    }
}
