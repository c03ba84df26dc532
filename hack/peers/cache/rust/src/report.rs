//! What a process has cost.

use std::time::Duration;

use serde_json::json;

use crate::Result;

/// How long a process rests before its memory is read; as in the Go program.
const PAUSE: Duration = Duration::from_secs(3);

/// Prints CPU and memory of this process so far. What it does while it rests is not part of the next report.
pub async fn report(peer: &str, events: u64) -> Result<()> {
    let cpu = cpu_seconds()?;
    tokio::time::sleep(PAUSE).await;
    let rested = cpu_seconds()?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mib = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
        Some((kib / 1024.0).round())
    };
    let line = json!({
        "peer": peer, "events": events, "cpu_s": cpu, "rested_cpu_s": rested,
        "peak_rss_mib": mib("VmHWM:"), "steady_rss_mib": mib("VmRSS:"),
    });
    println!("{line}");
    Ok(())
}

fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name, in parentheses, may have spaces.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / 100.0)
}
