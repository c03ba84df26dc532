//! Types whose JSON is not what their fields say: times, and numbers that may be text.

use jiff::Timestamp;
use serde_json::Value;

use super::Error;
use super::decode::{int32, text, varint};
use super::wire::{Reader, put_bytes, put_int};

/// Seconds of the year 1, Go's zero time: JSON writes it as null.
const ZERO_TIME: i64 = -62_135_596_800;
/// Seconds at which the year 0 begins: JSON has none before. The year 9999 is the last of [`Timestamp`] too.
const FIRST_SECOND: i64 = -62_167_219_200;
/// Nanoseconds that a microsecond has.
const NANOS_A_MICRO: i32 = 1000;

/// Reads a timestamp: `micro` says whether it has microseconds.
pub(super) fn time(bytes: &[u8], name: &str, micro: bool) -> Result<Value, Error> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.field()? {
        match number {
            1 => seconds = varint(raw, name)? as i64,
            2 if micro => nanos = int32(varint(raw, name)?),
            _ => {}
        }
    }
    let nanos = nanos / NANOS_A_MICRO * NANOS_A_MICRO;
    if seconds == ZERO_TIME && nanos == 0 {
        return Ok(Value::Null);
    }
    let time = Timestamp::from_second(seconds)
        .and_then(|t| t.checked_add(jiff::SignedDuration::from_nanos(i64::from(nanos))))
        .ok()
        .filter(|t| t.as_second() >= FIRST_SECOND)
        .ok_or_else(|| Error::Value {
            field: name.to_owned(),
            why: "year outside of range [0,9999]".to_owned(),
        })?;
    let text = if micro {
        format!("{time:.6}")
    } else {
        format!("{time:.0}")
    };
    Ok(text.into())
}

/// Writes a timestamp; null is the zero time, of which nothing is written.
pub(super) fn put_time(out: &mut Vec<u8>, value: &Value, name: &str, micro: bool) -> Result<(), Error> {
    if value.is_null() {
        return Ok(());
    }
    let time: Timestamp = value
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::Type {
            field: name.to_owned(),
            expected: "time",
        })?;
    // Nanoseconds count forward, also before 1970.
    let nanos = time.as_nanosecond().rem_euclid(1_000_000_000) as i64;
    let seconds = time.as_nanosecond().div_euclid(1_000_000_000) as i64;
    put_int(out, 1, seconds as u64);
    let micros = nanos / i64::from(NANOS_A_MICRO) * i64::from(NANOS_A_MICRO);
    put_int(out, 2, if micro { micros as u64 } else { 0 });
    Ok(())
}

/// Reads a number that may be text.
pub(super) fn int_or_string(bytes: &[u8], name: &str) -> Result<Value, Error> {
    let (mut is_text, mut number, mut string) = (false, 0, String::new());
    let mut reader = Reader::new(bytes);
    while let Some((field, raw)) = reader.field()? {
        match field {
            1 => {
                is_text = match varint(raw, name)? {
                    0 => false,
                    1 => true,
                    _ => {
                        return Err(Error::Value {
                            field: name.to_owned(),
                            why: "impossible IntOrString.Type".to_owned(),
                        });
                    }
                }
            }
            2 => number = int32(varint(raw, name)?),
            3 => string = text(raw, name)?,
            _ => {}
        }
    }
    Ok(if is_text { string.into() } else { number.into() })
}

/// Writes a number that may be text; all three fields, as Go does.
pub(super) fn put_int_or_string(out: &mut Vec<u8>, value: &Value, name: &str) -> Result<(), Error> {
    let (is_text, number, string) = match value {
        Value::Null => (0, 0, ""),
        Value::String(text) => (1, 0, text.as_str()),
        other => match other.as_i64().and_then(|n| i32::try_from(n).ok()) {
            Some(number) => (0, number, ""),
            None => {
                return Err(Error::Type {
                    field: name.to_owned(),
                    expected: "intorstring",
                });
            }
        },
    };
    put_int(out, 1, is_text);
    put_int(out, 2, i64::from(number) as u64);
    put_bytes(out, 3, string.as_bytes());
    Ok(())
}
