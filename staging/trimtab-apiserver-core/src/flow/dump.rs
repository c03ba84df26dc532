//! `/debug/api_priority_and_fairness/…`: what priority and fairness is at, as tables for people.

use std::fmt::Write as _;

use super::Table;

/// What the paths begin with.
pub(crate) const PREFIX: &str = "/debug/api_priority_and_fairness/";
/// The tables that there are.
pub(crate) const NAMES: [&str; 3] = ["dump_priority_levels", "dump_queues", "dump_requests"];

impl Table {
    /// The table of that name.
    pub(crate) fn dump(&self, name: &str) -> Option<String> {
        Some(match name {
            "dump_priority_levels" => self.dump_levels(),
            "dump_queues" => self.dump_queues(),
            "dump_requests" => self.dump_requests(),
            _ => return None,
        })
    }

    fn dump_levels(&self) -> String {
        let mut rows = vec![row(&[
            "PriorityLevelName",
            "ActiveQueues",
            "IsIdle",
            "IsQuiescing",
            "WaitingRequests",
            "ExecutingRequests",
            "DispatchedRequests",
            "RejectedRequests",
            "TimedoutRequests",
            "CancelledRequests",
        ])];
        for (name, placed) in &self.levels {
            let (load, counts, _) = placed.level.load();
            let active = placed.level.shown().iter().filter(|q| q.load.waiting > 0).count();
            let numbers = [
                u64::from(load.waiting),
                u64::from(load.executing),
                counts.dispatched,
                counts.rejected,
                counts.timed_out,
                counts.cancelled,
            ];
            let idle = load.waiting == 0 && load.executing == 0;
            let mut cells = vec![
                name.clone(),
                active.to_string(),
                idle.to_string(),
                "false".to_owned(),
            ];
            cells.extend(numbers.iter().map(u64::to_string));
            rows.push(cells);
        }
        aligned(&rows)
    }

    fn dump_queues(&self) -> String {
        let mut rows = vec![row(&[
            "PriorityLevelName",
            "Index",
            "PendingRequests",
            "ExecutingRequests",
            "SeatsInUse",
            "NextDispatchR",
            "PendingSeats",
        ])];
        for (name, placed) in &self.levels {
            for queue in placed.level.shown() {
                rows.push(vec![
                    name.clone(),
                    queue.index.to_string(),
                    queue.load.waiting.to_string(),
                    queue.load.executing.to_string(),
                    queue.load.seats.to_string(),
                    format!("{:.8}ss", queue.next_start),
                    queue.load.waiting_seats.to_string(),
                ]);
            }
        }
        aligned(&rows)
    }

    fn dump_requests(&self) -> String {
        let mut rows = vec![row(&[
            "PriorityLevelName",
            "FlowSchemaName",
            "QueueIndex",
            "RequestIndexInQueue",
            "WaitedSeconds",
            "InitialSeats",
        ])];
        for (name, placed) in &self.levels {
            for queue in placed.level.shown() {
                for (i, waiter) in placed.level.shown_waiting(queue.index).into_iter().enumerate() {
                    rows.push(vec![
                        name.clone(),
                        waiter.schema,
                        queue.index.to_string(),
                        i.to_string(),
                        format!("{:.3}", waiter.waited.as_secs_f64()),
                        waiter.seats.to_string(),
                    ]);
                }
            }
        }
        aligned(&rows)
    }
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// Each cell with a comma after it, one below the other.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0) + 2)
        .collect();
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a string does not fail.
            let _ = write!(text, "{:width$}", format!("{cell},"));
        }
        text.push('\n');
    }
    text
}
