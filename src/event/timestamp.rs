//! RFC 3339 times that keep the fraction they came with.

use std::fmt;

/// A point in time, and its text: RFC 3339 in UTC with `Z`, the fraction of the second digit for digit as received.
///
/// Two of them are equal when their texts are; compare [`Timestamp::instant`] to compare times, since `…00Z` and
/// `…00.000Z` are the same instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp {
    text: String,
    instant: jiff::Timestamp,
}

/// The length of the longest fraction that an instant holds whole.
const NANOSECONDS: usize = ".123456789".len();

/// The text is not RFC 3339 (section 5.6) or not a real time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time with a zone, such as 2025-08-06T20:59:36Z")]
pub struct ParseTimestampError;

impl Timestamp {
    /// Reads RFC 3339; another offset than `Z` is converted, the fraction kept as it is written.
    pub fn parse(text: &str) -> Result<Self, ParseTimestampError> {
        let (seconds, rest) = text.split_at_checked("2025-08-06T20:59:36".len()).ok_or(ParseTimestampError)?;
        if !is_date_time(seconds.as_bytes()) {
            return Err(ParseTimestampError);
        }
        let (fraction, offset) = split_fraction(rest)?;
        if !is_offset(offset.as_bytes()) {
            return Err(ParseTimestampError);
        }
        let is_canonical = offset == "Z" && seconds.as_bytes().get(10) == Some(&b'T');
        // Leap seconds are written as the second before.
        if is_canonical && !seconds.ends_with("60") && fraction.len() <= NANOSECONDS {
            return Ok(Self { text: text.to_owned(), instant: text.parse().map_err(|_| ParseTimestampError)? });
        }
        let whole: jiff::Timestamp = format!("{seconds}{offset}").parse().map_err(|_| ParseTimestampError)?;
        let nanoseconds = nanoseconds(fraction);
        let instant = jiff::Timestamp::new(whole.as_second(), nanoseconds).map_err(|_| ParseTimestampError)?;
        let utc = whole.to_string();
        // RFC 3339 has no year before 0000, and what is written here is read again.
        let utc = utc.strip_suffix('Z').filter(|utc| !utc.starts_with('-')).ok_or(ParseTimestampError)?;
        Ok(Self { text: format!("{utc}{fraction}Z"), instant })
    }

    /// As it stands in a record.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The time itself, to the nanosecond.
    pub fn instant(&self) -> jiff::Timestamp {
        self.instant
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(instant: jiff::Timestamp) -> Self {
        Self { text: instant.to_string(), instant }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_date_time(text: &[u8]) -> bool {
    text.iter().enumerate().all(|(index, byte)| match index {
        4 | 7 => *byte == b'-',
        10 => matches!(byte, b'T' | b't' | b' '),
        13 | 16 => *byte == b':',
        _ => byte.is_ascii_digit(),
    })
}

fn is_offset(text: &[u8]) -> bool {
    match text {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()),
        _ => false,
    }
}

/// `.123Z` → (`.123`, `Z`); `Z` → (``, `Z`).
fn split_fraction(rest: &str) -> Result<(&str, &str), ParseTimestampError> {
    let Some(digits) = rest.strip_prefix('.') else { return Ok(("", rest)) };
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    if length == 0 {
        return Err(ParseTimestampError);
    }
    rest.split_at_checked(length + 1).ok_or(ParseTimestampError)
}

/// Of `.123`; digits past the ninth are cut.
fn nanoseconds(fraction: &str) -> i32 {
    let digits = fraction.bytes().skip(1).chain(std::iter::repeat(b'0')).take(9);
    digits.fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_stays_as_received_and_offsets_become_utc() {
        for (given, expected) in [
            ("2025-08-06T20:59:36Z", "2025-08-06T20:59:36Z"),
            ("2025-08-06T20:59:36.120Z", "2025-08-06T20:59:36.120Z"),
            ("2025-08-06T20:59:36.123456789Z", "2025-08-06T20:59:36.123456789Z"),
            ("2025-08-06T20:59:36.1234567891Z", "2025-08-06T20:59:36.1234567891Z"),
            ("2025-08-06T22:59:36.5+02:00", "2025-08-06T20:59:36.5Z"),
            ("2025-08-06T20:59:36-00:00", "2025-08-06T20:59:36Z"),
            ("2025-08-06t20:59:36z", "2025-08-06T20:59:36Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z"),
        ] {
            let parsed = Timestamp::parse(given).expect(given);
            assert_eq!(parsed.as_str(), expected);
        }
    }

    #[test]
    fn the_instant_holds_the_fraction() {
        let parsed = Timestamp::parse("2025-08-06T20:59:36.25Z").expect("valid");
        assert_eq!(parsed.instant().subsec_nanosecond(), 250_000_000);
        let before_1970 = Timestamp::parse("1969-12-31T23:59:58.75Z").expect("valid");
        assert_eq!(before_1970.instant().as_nanosecond(), -1_250_000_000);
    }

    #[test]
    fn a_text_that_stays_as_it_is_is_read_like_one_that_is_rewritten() {
        for text in [
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00.000000001Z",
            "1969-12-31T23:59:58.75Z",
            "2024-02-29T23:59:59.000Z",
            "2016-12-31T23:59:60Z",
            "2025-02-29T00:00:00Z",
            "2025-08-06T20:60:00Z",
            "2025-08-06T20:59:36.123456789Z",
            "2025-08-06T20:59:36.1234567891Z",
            "9999-12-30T22:00:00.999999999Z",
            "9999-12-31T23:59:59.999999999Z",
        ] {
            assert_eq!(Timestamp::parse(text), Timestamp::parse(&text.replace('T', "t")), "{text}");
        }
    }

    #[test]
    fn what_is_not_rfc_3339_is_refused() {
        for text in [
            "",
            "now",
            "2025-08-06",
            "2025-08-06T20:59:36",
            "2025-08-06T20:59Z",
            "2025-08-06T20:59:36.Z",
            "2025-13-06T20:59:36Z",
            "2025-02-30T20:59:36Z",
            "2025-08-06T24:59:36Z",
            "2025-08-06T20:59:36+0200",
            "2025-08-06T20:59:36Z ",
            " 2025-08-06T20:59:36Z",
            "2025-08-06T20:59:36.5Z[UTC]",
            "+02025-08-06T20:59:36Z",
            "２025-08-06T20:59:36Z",
            "1754513976",
            // In UTC it is of the year before 0000.
            "0000-01-01T00:00:00+00:01",
        ] {
            assert_eq!(Timestamp::parse(text), Err(ParseTimestampError), "{text:?}");
        }
    }
}
