//! What the kernel says about the machine and about a process.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use serde::Serialize;

/// Ticks a second in /proc: fixed for programs on Linux.
const TICKS_A_SECOND: u64 = 100;

/// A process by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    /// Time its living threads spent on a processor, to the nanosecond. A thread that ended takes its time along.
    pub(crate) fn cpu_time(self) -> anyhow::Result<Duration> {
        self.cpu_time_of("")
    }

    /// Numbers and names of its living threads.
    pub(crate) fn thread_names(self) -> anyhow::Result<Vec<(i32, String)>> {
        let mut threads = Vec::new();
        for task in std::fs::read_dir(self.file("task"))? {
            let task = task?;
            let number = task.file_name().to_str().and_then(|name| name.parse().ok());
            // A thread may end between listing and reading.
            if let (Some(number), Ok(name)) = (number, std::fs::read_to_string(task.path().join("comm"))) {
                threads.push((number, name.trim_end().to_owned()));
            }
        }
        Ok(threads)
    }

    /// [`Self::cpu_time`] of threads whose names begin so.
    pub(crate) fn cpu_time_of(self, prefix: &str) -> anyhow::Result<Duration> {
        let mut total = Duration::ZERO;
        for task in std::fs::read_dir(self.file("task"))? {
            let task = task?.path();
            // A thread may end between listing and reading.
            let (Ok(name), Ok(text)) = (
                std::fs::read_to_string(task.join("comm")),
                std::fs::read_to_string(task.join("schedstat")),
            ) else {
                continue;
            };
            if name.starts_with(prefix) {
                total += Duration::from_nanos(text.split(' ').next().unwrap_or("0").parse()?);
            }
        }
        Ok(total)
    }

    /// User and system time of all its threads, also of those that ended, to a hundredth of a second.
    pub(crate) fn cpu_time_of_all(self) -> anyhow::Result<Duration> {
        let text = std::fs::read_to_string(self.file("stat"))?;
        cpu_of_stat(&text).context("user and system time")
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(self) -> anyhow::Result<u64> {
        Ok(self.status("VmRSS:")? * 1_024)
    }

    /// Threads.
    pub(crate) fn threads(self) -> anyhow::Result<u64> {
        self.status("Threads:")
    }

    /// Open descriptors.
    pub(crate) fn descriptors(self) -> anyhow::Result<u64> {
        Ok(std::fs::read_dir(self.file("fd"))?.count() as u64)
    }

    fn status(self, key: &str) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(self.file("status"))?;
        status_value(&text, key).with_context(|| format!("a line {key}"))
    }
}

fn cpu_of_stat(text: &str) -> Option<Duration> {
    // The name may hold anything; it ends at the last bracket. Times are fields 14 and 15 of proc(5).
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1_000 / TICKS_A_SECOND))
}

fn status_value(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Times at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    at: Instant,
    server: Duration,
    client: Duration,
    /// Busy and stolen ticks of the whole machine.
    machine: (u64, u64),
}

impl Moment {
    /// Takes the times of this program, the server and the machine.
    pub(crate) fn take(server: Process) -> anyhow::Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let duration = |time: nix::sys::time::TimeVal| {
            Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)
        };
        Ok(Self {
            at: Instant::now(),
            server: server.cpu_time()?,
            client: duration(usage.user_time()) + duration(usage.system_time()),
            machine: machine_ticks(&std::fs::read_to_string("/proc/stat")?).context("a line cpu")?,
        })
    }

    /// What was used since an earlier moment.
    pub(crate) fn since(self, earlier: Self) -> anyhow::Result<Usage> {
        let seconds = (self.at - earlier.at).as_secs_f64();
        let cores =
            |later: Duration, earlier: Duration| later.saturating_sub(earlier).as_secs_f64() / seconds;
        let ticks = |later: u64, earlier: u64| (later - earlier) as f64 / TICKS_A_SECOND as f64 / seconds;
        let server_cores = cores(self.server, earlier.server);
        let client_cores = cores(self.client, earlier.client);
        let busy = ticks(self.machine.0, earlier.machine.0);
        let load = std::fs::read_to_string("/proc/loadavg")?;
        Ok(Usage {
            seconds,
            server_cores,
            client_cores,
            other_cores: (busy - server_cores - client_cores).max(0.0),
            steal_cores: ticks(self.machine.1, earlier.machine.1),
            load_1m: load.split(' ').next().unwrap_or("0").parse()?,
        })
    }
}

/// Busy (all but idle, waiting and stolen) and stolen ticks.
fn machine_ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal
    let busy = [0, 1, 2, 5, 6]
        .iter()
        .map(|field| fields.get(*field))
        .sum::<Option<u64>>()?;
    Some((busy, *fields.get(7)?))
}

/// Processor time by whom, in cores.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Usage {
    /// Seconds that were measured.
    pub(crate) seconds: f64,
    /// The server's processor time a second.
    pub(crate) server_cores: f64,
    /// This tool's: near the number of its threads it was the bottleneck.
    pub(crate) client_cores: f64,
    /// That of all other programs on the machine.
    pub(crate) other_cores: f64,
    /// What the hypervisor took.
    pub(crate) steal_cores: f64,
    /// Load average of the last minute.
    pub(crate) load_1m: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_may_hold_brackets() {
        let text = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 1 1 1";
        assert_eq!(cpu_of_stat(text), Some(Duration::from_secs(3)));
    }

    #[test]
    fn idle_time_is_not_busy_and_stolen_time_is_told_apart() {
        let text = "cpu  10 1 5 1000 50 2 3 40 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(machine_ticks(text), Some((21, 40)));
        assert_eq!(machine_ticks("intr 1"), None);
    }

    #[test]
    fn lines_of_the_status_are_read_by_their_key() {
        let text = "Name:\tx\nVmRSS:\t   123 kB\nThreads:\t7\n";
        assert_eq!(
            (status_value(text, "VmRSS:"), status_value(text, "Threads:")),
            (Some(123), Some(7))
        );
        assert_eq!(status_value(text, "Absent:"), None);
    }

    #[test]
    fn this_process_has_threads_descriptors_and_memory() {
        let own = Process(std::process::id());
        assert!(own.threads().expect("a status") >= 1);
        assert!(own.descriptors().expect("a folder") >= 3);
        assert!(own.resident_bytes().expect("a status") > 1 << 20);
        assert!(own.cpu_time().expect("tasks") >= own.cpu_time_of("no thread has this name").expect("tasks"));
    }
}
