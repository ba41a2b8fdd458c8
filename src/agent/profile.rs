//! Profiling tasks, as the backend words them.

use std::time::Duration;

use crate::protocol::v3::Command;

/// A task that the backend has for a profiler. Whether it can be done is the profiler's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProfileTask {
    /// The task; it goes with each snapshot and with the report of its end.
    pub task_id: String,
    /// The number by which repeats are told.
    pub serial_number: String,
    /// The endpoint whose segments are to be profiled.
    pub endpoint_name: String,
    /// How long the task lasts.
    pub duration: Duration,
    /// Only segments that take longer are of interest.
    pub min_duration_threshold: Duration,
    /// The time between two snapshots.
    pub dump_period: Duration,
    /// How many segments are profiled at most.
    pub max_sampling_count: u32,
    /// When it begins, in milliseconds since the epoch.
    pub start_time: i64,
    /// When it was made, in milliseconds since the epoch.
    pub create_time: i64,
}

/// The name of the command.
pub(super) const COMMAND: &str = "ProfileTaskQuery";

// === impl ProfileTask ===

impl ProfileTask {
    /// Reads a command; `None` if it is not what it should be.
    pub(super) fn read(command: &Command) -> Option<Self> {
        let text = |key: &str| {
            command.args.iter().find(|pair| pair.key == key).map(|pair| pair.value.as_str())
        };
        let number = |key| text(key)?.trim().parse::<u64>().ok();
        let time = |key| text(key)?.trim().parse::<i64>().ok();
        Some(Self {
            task_id: text("TaskId")?.to_owned(),
            serial_number: text("SerialNumber").unwrap_or_default().to_owned(),
            endpoint_name: text("EndpointName")?.to_owned(),
            // In minutes; the other times are in milliseconds.
            duration: Duration::from_secs(number("Duration")?.checked_mul(60)?),
            min_duration_threshold: Duration::from_millis(number("MinDurationThreshold")?),
            dump_period: Duration::from_millis(number("DumpPeriod")?),
            max_sampling_count: number("MaxSamplingCount")?.try_into().ok()?,
            start_time: time("StartTime")?,
            create_time: time("CreateTime")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::v3::KeyStringValuePair;

    const ARGS: [(&str, &str); 9] = [
        ("SerialNumber", "s-1"),
        ("TaskId", "t-1"),
        ("EndpointName", "GET:/"),
        ("Duration", "5"),
        ("MinDurationThreshold", "100"),
        ("DumpPeriod", "10"),
        ("MaxSamplingCount", "9"),
        ("StartTime", "1700000000001"),
        ("CreateTime", "1700000000000"),
    ];

    fn command(args: impl Iterator<Item = (&'static str, &'static str)>) -> Command {
        let pair = |(key, value): (&str, &str)| KeyStringValuePair {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        Command { command: COMMAND.to_owned(), args: args.map(pair).collect() }
    }

    #[test]
    fn a_task_is_read_with_its_units() {
        let task = ProfileTask::read(&command(ARGS.into_iter())).unwrap();
        assert_eq!(
            (&*task.task_id, &*task.serial_number, &*task.endpoint_name),
            ("t-1", "s-1", "GET:/")
        );
        assert_eq!(task.duration, Duration::from_secs(300));
        assert_eq!(task.min_duration_threshold, Duration::from_millis(100));
        assert_eq!((task.dump_period, task.max_sampling_count), (Duration::from_millis(10), 9));
        assert_eq!((task.start_time, task.create_time), (1_700_000_000_001, 1_700_000_000_000));
    }

    #[test]
    fn what_lacks_something_is_no_task() {
        for (missing, _) in ARGS.into_iter().skip(1) {
            let command = command(ARGS.into_iter().filter(|(key, _)| *key != missing));
            assert_eq!(ProfileTask::read(&command), None, "{missing}");
        }
        let odd = ARGS.into_iter().map(|(k, v)| (k, if k == "Duration" { "-1" } else { v }));
        assert_eq!(ProfileTask::read(&command(odd)), None);
    }
}
