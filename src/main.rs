//! The binary. Everything else is in the library.

/// The program's own allocator, so that memory behaves the same with every C library (docs/decisions.md).
#[global_allocator]
static HEAP: edge_metrics_exporter::sys::heap::Heap = edge_metrics_exporter::sys::heap::Heap;

fn main() -> std::process::ExitCode {
    edge_metrics_exporter::cli::main(std::env::args_os())
}
