//! Numbers, times and sizes as people read them.

use jiff::Timestamp;

/// `1,234,567`
pub(super) fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}")
}

/// Per second.
pub(super) fn rate(number: f64) -> String {
    if number < 100.0 { format!("{number:.1}") } else { count(number) }
}

/// Rounded down to what matters of it: `45 s`, `3 min`, `2 h 5 min`, `4 d 3 h`.
pub(super) fn age(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if minutes == 0 => format!("{seconds} s"),
        () if hours == 0 => format!("{minutes} min"),
        () if days == 0 => format!("{hours} h {} min", minutes % 60),
        () => format!("{days} d {} h", hours % 24),
    }
}

/// A short span: `0.8 ms`, `12 ms`, `1.5 s`.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        s if s < 0.01 => format!("{:.1} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.1} s"),
    }
}

/// `1.5 GiB`
pub(super) fn bytes(number: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = number.max(0.0);
    let mut unit = "B";
    for next in units {
        unit = next;
        if scaled < 1024.0 {
            break;
        }
        if next != "TiB" {
            scaled /= 1024.0;
        }
    }
    if unit == "B" || scaled >= 100.0 { format!("{scaled:.0} {unit}") } else { format!("{scaled:.1} {unit}") }
}

/// UTC, to the second.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Of Unix seconds.
pub(super) fn time_of(unix_seconds: f64) -> Option<Timestamp> {
    Timestamp::from_millisecond((unix_seconds * 1e3) as i64).ok()
}

/// Seconds from `then` to `now`.
pub(super) fn since(then: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(then).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        let counts = [0.0, 999.0, 1000.0, 1_234_567.0].map(count);
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.04, 99.94, 1234.0].map(rate), ["0.0", "99.9", "1,234"]);
        assert_eq!([-1.0, 59.9, 60.0, 7500.0, 100_000.0].map(age), ["0 s", "59 s", "1 min", "2 h 5 min", "1 d 3 h"]);
        assert_eq!([0.0008, 0.0123, 1.5].map(span), ["0.8 ms", "12 ms", "1.5 s"]);
        assert_eq!(
            [0.0, 1023.0, 1536.0, 104_857_600.0, 5e15].map(bytes),
            ["0 B", "1023 B", "1.5 KiB", "100 MiB", "4547 TiB"]
        );
        assert_eq!(time(time_of(1_780_000_000.5).unwrap()), "2026-05-28 20:26:40Z");
    }
}
