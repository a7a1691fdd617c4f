//! A process that is measured: its CPU time and its memory, as Linux counts them.

use anyhow::Context as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};

const START: Duration = Duration::from_secs(30);

/// Which of its streams tells the address.
pub(crate) enum Tells {
    Stdout,
    Stderr,
}

/// Killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) pid: u32,
}

impl Process {
    /// Starts it, and waits for the first line in which `find` finds something.
    pub(crate) async fn start<T: Send + 'static>(
        mut command: Command,
        tells: Tells,
        find: impl Fn(&str) -> Option<T> + Send + 'static,
    ) -> anyhow::Result<(Self, T)> {
        command.stdin(Stdio::null()).kill_on_drop(true);
        match tells {
            Tells::Stdout => command.stdout(Stdio::piped()),
            Tells::Stderr => command.stderr(Stdio::piped()),
        };
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let pid = child.id().context("it ended at once")?;
        let stream: Box<dyn AsyncRead + Unpin + Send> = match tells {
            Tells::Stdout => Box::new(child.stdout.take().context("its stdout")?),
            Tells::Stderr => Box::new(child.stderr.take().context("its stderr")?),
        };
        let mut lines = BufReader::new(stream).lines();
        let found = async {
            while let Some(line) = lines.next_line().await? {
                if let Some(found) = find(&line) {
                    return Ok(found);
                }
            }
            anyhow::bail!("{command:?} ended before it was ready")
        };
        let found = tokio::time::timeout(START, found).await.context("not ready in time")??;
        // What it says later is read on, so that it never waits for a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok((Self { child, pid }, found))
    }

    /// Lets it end by itself.
    pub(crate) async fn terminate(mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_raw(self.pid.try_into()?).context("a pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.child.wait().await?;
        anyhow::ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

/// User and system time of all its threads, in seconds; the kernel counts in ticks of 10 ms.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("a process's stat")?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// MiB: `VmRSS` now, `VmHWM` at its highest.
pub(crate) fn memory(pid: u32, field: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib: f64 = line.and_then(|line| line.split_whitespace().next()).context("no such field")?.parse()?;
    Ok(kib / 1024.0)
}

/// Bytes of all files below a folder, as long as they say they are. A file that goes meanwhile counts for nothing.
pub(crate) fn size(path: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let size =
            if entry.file_type()?.is_dir() { size(&entry.path()) } else { entry.metadata().map(|file| file.len()) };
        bytes += match size {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            size => size?,
        };
    }
    Ok(bytes)
}
