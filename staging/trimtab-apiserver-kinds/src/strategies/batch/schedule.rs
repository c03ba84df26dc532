//! Cron schedules: five fields, or a word with an at sign. Only whether they make sense, with the words of the parser
//! that Kubernetes uses (`github.com/robfig/cron/v3`).

use std::ops::RangeInclusive;

use jiff::tz::TimeZoneDatabase;

const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What a field of a schedule may hold: minutes, hours, days of the month, months, days of the week.
const FIELDS: [(RangeInclusive<i64>, &[&str]); 5] = [
    (0..=59, &[]),
    (0..=23, &[]),
    (1..=31, &[]),
    (1..=12, MONTHS),
    (0..=6, DAYS),
];

/// Whether a schedule makes sense.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    let mut schedule = schedule;
    if schedule.is_empty() {
        return Err("empty spec string".to_owned());
    }
    if let Some(rest) = schedule
        .strip_prefix("TZ=")
        .or_else(|| schedule.strip_prefix("CRON_TZ="))
    {
        let Some((zone, rest)) = rest.split_once(' ') else {
            return Err("invalid schedule format: runtime error: slice bounds out of range [:-1]".to_owned());
        };
        if !is_time_zone(zone) {
            return Err(format!("provided bad location {zone}: unknown time zone {zone}"));
        }
        schedule = rest.trim();
    }
    if schedule.starts_with('@') {
        return descriptor(schedule);
    }
    let parts: Vec<&str> = schedule.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        let (wanted, found) = (FIELDS.len(), parts.len());
        return Err(format!(
            "expected exactly {wanted} fields, found {found}: [{}]",
            parts.join(" ")
        ));
    }
    for (part, (bounds, names)) in parts.iter().zip(&FIELDS) {
        for range in part.split(',').filter(|range| !range.is_empty()) {
            check_range(range, bounds, names)?;
        }
    }
    Ok(())
}

/// Whether there is a time zone of that name.
pub(super) fn is_time_zone(name: &str) -> bool {
    let found = || TimeZoneDatabase::bundled().get(name).ok();
    matches!(name, "" | "UTC") || found().is_some_and(|zone| zone.iana_name() == Some(name))
}

fn check_range(range: &str, bounds: &RangeInclusive<i64>, names: &[&str]) -> Result<(), String> {
    let mut steps = range.split('/');
    let (span, step) = (steps.next().unwrap_or_default(), steps.next());
    let mut ends = span.split('-');
    let (low, high) = (ends.next().unwrap_or_default(), ends.next());
    let (start, mut end);
    if matches!(low, "*" | "?") {
        (start, end) = (*bounds.start(), *bounds.end());
    } else {
        start = number_or_name(low, bounds, names)?;
        end = high.map_or(Ok(start), |high| number_or_name(high, bounds, names))?;
        if ends.next().is_some() {
            return Err(format!("too many hyphens: {range}"));
        }
    }
    let mut every = 1;
    if let Some(step) = step {
        if steps.next().is_some() {
            return Err(format!("too many slashes: {range}"));
        }
        every = number(step)?;
        if high.is_none() {
            end = *bounds.end();
        }
    }
    let (min, max) = (bounds.start(), bounds.end());
    if start < *min {
        return Err(format!(
            "beginning of range ({start}) below minimum ({min}): {range}"
        ));
    }
    if end > *max {
        return Err(format!("end of range ({end}) above maximum ({max}): {range}"));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {range}"
        ));
    }
    if every == 0 {
        return Err(format!("step of range should be a positive number: {range}"));
    }
    Ok(())
}

fn number_or_name(text: &str, bounds: &RangeInclusive<i64>, names: &[&str]) -> Result<i64, String> {
    let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let named = named.and_then(|at| i64::try_from(at).ok());
    named.map_or_else(|| number(text), |at| Ok(bounds.start() + at))
}

fn number(text: &str) -> Result<i64, String> {
    let number: i64 = text.parse().map_err(|_| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let why = if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            "value out of range"
        } else {
            "invalid syntax"
        };
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}")
    })?;
    if number < 0 {
        return Err(format!("negative number ({number}) not allowed: {text}"));
    }
    Ok(number)
}

fn descriptor(text: &str) -> Result<(), String> {
    const KNOWN: [&str; 7] = [
        "@yearly",
        "@annually",
        "@monthly",
        "@weekly",
        "@daily",
        "@midnight",
        "@hourly",
    ];
    if KNOWN.contains(&text) {
        return Ok(());
    }
    match text.strip_prefix("@every ") {
        Some(every) => duration(every).map_err(|e| format!("failed to parse duration {text}: time: {e}")),
        None => Err(format!("unrecognized descriptor: {text}")),
    }
}

/// Whether a text is a duration as Go writes them: `1h30m`, `-1.5s`.
fn duration(text: &str) -> Result<(), String> {
    let invalid = || format!("invalid duration {text:?}");
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let unit = rest.trim_start_matches(is_number);
        let amount = rest.strip_suffix(unit).unwrap_or_default();
        if !amount.contains(|c: char| c.is_ascii_digit()) || amount.matches('.').count() > 1 {
            return Err(invalid());
        }
        rest = unit.trim_start_matches(|c| !is_number(c));
        match unit.strip_suffix(rest).unwrap_or_default() {
            "" => return Err(format!("missing unit in duration {text:?}")),
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => {}
            other => return Err(format!("unknown unit {other:?} in duration {text:?}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read_as_the_parser_of_kubernetes_reads_them() {
        let good = [
            "*/5 * * * *",
            "0 0 1,15 jan-MAR ?",
            "5/10 8-18/2 * * mon",
            "@hourly",
            "@every 1h30m",
            "TZ=Europe/Berlin 0 0 * * *",
        ];
        for schedule in good {
            assert_eq!(check(schedule), Ok(()), "{schedule}");
        }
        let bad = [
            ("", "empty spec string"),
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            (
                "5-3 * * * *",
                "beginning of range (5) beyond end of range (3): 5-3",
            ),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("@never", "unrecognized descriptor: @never"),
            (
                "@every 5",
                "failed to parse duration @every 5: time: missing unit in duration \"5\"",
            ),
            (
                "TZ=No/Where * * * * *",
                "provided bad location No/Where: unknown time zone No/Where",
            ),
        ];
        for (schedule, why) in bad {
            assert_eq!(check(schedule), Err(why.to_owned()), "{schedule}");
        }
    }

    #[test]
    fn time_zones_are_known_by_their_exact_names() {
        let cases = [
            ("Etc/UTC", true),
            ("Asia/Tokyo", true),
            ("asia/tokyo", false),
            ("Nowhere", false),
        ];
        for (name, known) in cases {
            assert_eq!(is_time_zone(name), known, "{name}");
        }
    }
}
