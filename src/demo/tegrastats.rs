//! A simulation of NVIDIA's tegrastats: prints the line of a Jetson Orin NX with JetPack 6, with the values of `load`.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::load;
use crate::sys::clock::BootTime;

/// `tegrastats --interval MILLISECONDS`: prints a line at each interval until the reader closes the pipe. The first argument is
/// this program, in the `bin` folder of its board.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let program = PathBuf::from(arguments.next().unwrap_or_default());
    let board = program.parent().and_then(Path::parent);
    let name = board.and_then(|board| std::fs::read_to_string(board.join(load::HOSTNAME)).ok());
    let phase = load::phase(&name.unwrap_or_default());
    let arguments: Vec<_> = arguments.collect();
    let interval = match arguments.as_slice() {
        [] => 1000,
        [flag, value] if flag == "--interval" => {
            match value.to_str().and_then(|v| v.parse::<u64>().ok()) {
                Some(milliseconds) => milliseconds.clamp(10, 86_400_000),
                None => return ExitCode::FAILURE,
            }
        }
        _ => return ExitCode::FAILURE,
    };
    let mut out = std::io::stdout().lock();
    loop {
        let line = line(load::time(BootTime::now(), phase));
        if out
            .write_all(line.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(Duration::from_millis(interval));
    }
}

/// The line at `t`, in seconds.
fn line(t: f64) -> String {
    let busy = load::busy(t);
    let percent = |share: f64| (share * 100.0).clamp(0.0, 100.0) as u32;
    let cores: Vec<_> = (0..8)
        .map(|core| {
            format!(
                "{}%@{}",
                percent(load::busy(t + f64::from(core))),
                729 + percent(busy) * 12
            )
        })
        .collect();
    let milliwatts = |watts: f64| format!("{0}mW/{0}mW", (watts * 1e3) as u32);
    format!(
        "RAM {}/15523MB (lfb 4x4MB) SWAP 0/7762MB (cached 0MB) CPU [{}] EMC_FREQ {}%@3199 GR3D_FREQ {}%@[918] \
         VIC off APE 174 cpu@{:.3}C soc2@{:.3}C gpu@{:.3}C tj@{:.3}C VDD_IN {} VDD_CPU_GPU_CV {} VDD_SOC {}\n",
        3000 + percent(busy) * 20,
        cores.join(","),
        percent(busy / 3.0),
        percent(load::busy(t + 13.0)),
        load::celsius(t),
        load::celsius(t) - 3.0,
        load::celsius(t + 13.0) - 2.0,
        load::celsius(t),
        milliwatts(load::input_watts(t)),
        milliwatts(load::package_watts(t) + load::gpu_watts(t)),
        milliwatts(load::memory_watts(t) + 1.0),
    )
}
