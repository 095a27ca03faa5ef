//! The binary: a command line, and an exit status.

/// The same on every board, whichever C library and linker the binary was made with (docs/decisions.md).
#[global_allocator]
static HEAP: edge_metrics_exporter::sys::heap::Heap = edge_metrics_exporter::sys::heap::Heap;

fn main() -> std::process::ExitCode {
    edge_metrics_exporter::cli::main(std::env::args_os())
}
