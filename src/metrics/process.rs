//! What the process takes of its machine, by the names that Prometheus' own clients give it. Source:
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>, and proc(5).

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Reads `/proc` at each scrape. If it cannot be read there, nothing is said.
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// The process, as `/proc` has it.
struct Process {
    cpu_seconds: f64,
    start_seconds: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
    open_fds: u64,
}

/// Ticks in a second, in what the kernel tells programs. Source: `USER_HZ`, which is 100 on every architecture that Rollcall is
/// built for.
const USER_HZ: f64 = 100.0;

/// Places in `/proc/self/stat`, counted from the one after the name of the program.
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const TICKS_FROM_BOOT_TO_START: usize = 19;

impl Process {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let seconds = |place: usize| Some(fields.get(place)?.parse::<u64>().ok()? as f64 / USER_HZ);
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
        };
        Some(Self {
            cpu_seconds: seconds(USER_TICKS)? + seconds(SYSTEM_TICKS)?,
            start_seconds: booted_at()? + seconds(TICKS_FROM_BOOT_TO_START)?,
            virtual_bytes: bytes("VmSize:")?,
            resident_bytes: bytes("VmRSS:")?,
            open_fds: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        })
    }
}

fn booted_at() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(process) = Process::read() else { return Ok(()) };
        let cpu = ConstCounter::new(process.cpu_seconds);
        let help = "Processor time that the process has used, of the user and of the system";
        let metric = encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?;
        cpu.encode(metric)?;
        let start = ConstGauge::new(process.start_seconds);
        let help = "Unix time at which the process started";
        let metric = encoder.encode_descriptor("process_start_time", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        start.encode(metric)?;
        let bytes = [
            ("process_resident_memory", "Memory of the process that is in RAM", process.resident_bytes),
            ("process_virtual_memory", "Memory that the process has asked for", process.virtual_bytes),
        ];
        for (name, help, n_bytes) in bytes {
            let metric = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
            ConstGauge::new(n_bytes as i64).encode(metric)?;
        }
        let metric = encoder.encode_descriptor("process_open_fds", "Files that are open", None, MetricType::Gauge)?;
        ConstGauge::new(process.open_fds as i64).encode(metric)
    }
}
