//! The binary: a command line, and an exit status.

/// The same on every board, whichever C library and linker the binary was made with (docs/decisions.md).
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> std::process::ExitCode {
    edge_metrics_exporter::cli::main(std::env::args_os())
}
