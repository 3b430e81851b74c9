//! Processors of their own for the server and for this tool, as where each has a machine.
//!
//! On one machine a kernel may put a worker that a sender wakes on the sender's processor, or two workers on one, while others
//! are idle; then a delay tells of that, and not of the server.

use std::sync::LazyLock;

use anyhow::{Context as _, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::machine::Process;

/// The processors this program was given, by half.
#[derive(Debug)]
pub(crate) struct Halves {
    server: Vec<usize>,
    tool: Vec<usize>,
}

/// Taken before any thread is confined.
static HALVES: LazyLock<nix::Result<Halves>> = LazyLock::new(|| {
    let given = sched_getaffinity(THIS_THREAD)?;
    let given: Vec<usize> = (0..CpuSet::count())
        .filter(|place| given.is_set(*place).unwrap_or(false))
        .collect();
    let (server, tool) = given.split_at(given.len() / 2);
    Ok(Halves {
        server: server.to_vec(),
        tool: tool.to_vec(),
    })
});

impl Halves {
    /// # Errors
    /// When there is but one processor.
    pub(crate) fn get() -> anyhow::Result<&'static Self> {
        let halves = HALVES.as_ref().context("which processors there are")?;
        ensure!(!halves.server.is_empty(), "one processor cannot be shared out");
        Ok(halves)
    }

    /// The calling thread, and those it starts from here on, run on the tool's half.
    pub(crate) fn take_tools(&self) -> anyhow::Result<()> {
        confine(THIS_THREAD, &self.tool)
    }

    /// The calling thread runs on the processor that the first media worker has.
    pub(crate) fn take_first_workers(&self) -> anyhow::Result<()> {
        confine(THIS_THREAD, &self.server[..1])
    }

    /// All threads of a server run on its half, its media workers on a processor each as long as there are enough.
    pub(crate) fn give_server(&self, server: Process) -> anyhow::Result<()> {
        for (thread, name) in server.thread_names()? {
            let worker = name.strip_prefix("media-").map(str::parse::<usize>);
            let processors = match worker {
                Some(Ok(worker)) => &self.server[worker % self.server.len()..][..1],
                _ => &self.server[..],
            };
            confine(Pid::from_raw(thread), processors)?;
        }
        Ok(())
    }
}

fn confine(thread: Pid, processors: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    for processor in processors {
        set.set(*processor)?;
    }
    match sched_setaffinity(thread, &set) {
        // It ended meanwhile.
        Err(nix::errno::Errno::ESRCH) => Ok(()),
        result => Ok(result?),
    }
}

/// As the kernel means it (sched_setaffinity(2)).
const THIS_THREAD: Pid = Pid::from_raw(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_processors_are_those_it_was_confined_to() {
        let given = sched_getaffinity(THIS_THREAD).expect("known");
        let first = (0..CpuSet::count()).find(|place| given.is_set(*place) == Ok(true));
        let first = first.expect("this thread runs somewhere");
        let halves = Halves {
            server: vec![first],
            tool: vec![],
        };
        let confined = std::thread::spawn(move || {
            halves.take_first_workers().expect("the first processor");
            sched_getaffinity(THIS_THREAD).expect("known")
        });
        let set = confined.join().expect("no panic");
        let places: Vec<usize> = (0..CpuSet::count())
            .filter(|place| set.is_set(*place) == Ok(true))
            .collect();
        assert_eq!(places, [first]);
    }
}
