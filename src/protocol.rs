//! The SkyWalking data collect protocol: generated types, the table of methods, framing.
//!
//! The types come from `proto/`, compiled by `build.rs`. Records on their way are opaque bytes:
//! what the engine needs of the protocol is in the table, in [`frame`] and in [`scan`].

pub mod frame;
mod methods;
pub mod scan;

pub use generated::skywalking::{v3, v10};
pub use methods::{Away, Kind, METHODS, Method, Shape, Sticky, find};

/// The package-less twins of older v3 services, which cpp2sky and others still call.
pub mod compat {
    pub use super::generated::{
        browser_perf_service_client, browser_perf_service_server, clr_metric_report_service_client,
        clr_metric_report_service_server, jvm_metric_report_service_client,
        jvm_metric_report_service_server, management_service_client, management_service_server,
        meter_report_service_client, meter_report_service_server, profile_task_client,
        profile_task_server, trace_segment_report_service_client,
        trace_segment_report_service_server,
    };
}

/// The compiled descriptors of every file in `proto/`, an encoded `FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[allow(missing_docs, unused_qualifications, unreachable_pub, clippy::all)]
#[allow(non_camel_case_types, reason = "the generated stream types are named after the method")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/skywalking.rs"));
}
