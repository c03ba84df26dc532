//! Text formats, as `date-time` or `ipv4`: which there are and what conforms to them.
//!
//! What conforms is what the Go libraries of kube-apiserver accept, leniencies included.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

use crate::schema::Type;

/// A format that text is checked against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format(fn(&str) -> bool);

impl Format {
    /// Whether the text conforms.
    pub(super) fn accepts(self, text: &str) -> bool {
        (self.0)(text)
    }
}

/// Whether a format means something for a type; others are ignored.
pub(super) fn known(type_: Option<Type>, int_or_string: bool, format: &str) -> bool {
    match type_ {
        _ if int_or_string => named(format).is_some(),
        None | Some(Type::String) => named(format).is_some(),
        Some(Type::Integer) => matches!(format, "int32" | "int64"),
        Some(Type::Number) => matches!(format, "float" | "double"),
        Some(_) => false,
    }
}

/// The text format of that name; dashes do not count.
pub(super) fn named(name: &str) -> Option<Format> {
    let check: fn(&str) -> bool = match name.replace('-', "").as_str() {
        "bsonobjectid" => |s| s.len() == 24 && s.bytes().all(|b| b.is_ascii_hexdigit()),
        "uri" => uri,
        "email" => email,
        "hostname" => hostname,
        "ipv4" => |s| s.contains('.') && ip(s, true),
        "ipv6" => |s| s.contains(':') && ip(s, false),
        "cidr" => cidr,
        "mac" => mac,
        "uuid" => |s| uuid(s, None, false),
        "uuid3" => |s| uuid(s, Some(b'3'), false),
        "uuid4" => |s| uuid(s, Some(b'4'), true),
        "uuid5" => |s| uuid(s, Some(b'5'), true),
        "isbn" => |s| isbn10(s) || isbn13(s),
        "isbn10" => isbn10,
        "isbn13" => isbn13,
        "creditcard" => credit_card,
        "ssn" => |s| s.len() == 11 && matches(&SSN, s),
        "hexcolor" => |s| matches(&HEX_COLOR, s),
        "rgbcolor" => |s| matches(&RGB_COLOR, s),
        "byte" => |s| matches(&BASE64, s),
        "password" => |_| true,
        "date" => date,
        "duration" => duration,
        "datetime" => date_time,
        "k8sshortname" => |s| s.len() <= 63 && label(s),
        "k8slongname" => |s| s.len() <= 253 && s.split('.').all(label),
        _ => return None,
    };
    Some(Format(check))
}

type Pattern = LazyLock<Option<Regex>>;

// From kube-openapi's strfmt and its copy of govalidator.
static HOSTNAME: Pattern = LazyLock::new(|| {
    Regex::new(
        r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$",
    )
    .ok()
});
static CREDIT_CARD: Pattern = LazyLock::new(|| {
    Regex::new(
        r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$",
    )
    .ok()
});
static SSN: Pattern = LazyLock::new(|| Regex::new(r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$").ok());
static HEX_COLOR: Pattern = LazyLock::new(|| Regex::new(r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$").ok());
static RGB_COLOR: Pattern = LazyLock::new(|| {
    const PART: &str = r"\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*";
    Regex::new(&format!(r"^rgb\({PART},{PART},{PART}\)$")).ok()
});
static BASE64: Pattern = LazyLock::new(|| {
    Regex::new("^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$").ok()
});
static TIME: Pattern = LazyLock::new(|| {
    Regex::new(r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$").ok()
});
static DURATION: Pattern = LazyLock::new(|| Regex::new(r"([0-9]+)[\t\n\f\r ]*([A-Za-zµ]+)").ok());
static GO_DURATION: Pattern =
    LazyLock::new(|| Regex::new(r"^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$").ok());

fn matches(pattern: &Pattern, text: &str) -> bool {
    pattern.as_ref().is_some_and(|p| p.is_match(text))
}

fn hostname(text: &str) -> bool {
    text.len() <= 255 && text.split('.').all(|part| part.len() <= 63) && matches(&HOSTNAME, text)
}

fn label(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (text.bytes().next(), text.bytes().last()) else {
        return false;
    };
    plain(first) && plain(last) && text.bytes().all(|b| plain(b) || b == b'-')
}

/// `sloppy` allows leading zeros in the numbers of IPv4 addresses, as Go once did.
fn ip(text: &str, sloppy: bool) -> bool {
    parse_ip(text, sloppy).is_some()
}

/// An IP address, with leading zeros in IPv4 numbers when `sloppy`.
pub(super) fn parse_ip(text: &str, sloppy: bool) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    if !sloppy {
        return text.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    let parts: Option<Vec<u8>> = text
        .split('.')
        .map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            part.parse().ok().filter(|_| digits)
        })
        .collect();
    let octets: [u8; 4] = parts?.try_into().ok()?;
    Some(IpAddr::V4(octets.into()))
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let most = match parse_ip(address, true) {
        Some(IpAddr::V4(_)) => 32,
        Some(IpAddr::V6(_)) => 128,
        None => return false,
    };
    bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse::<u32>().is_ok_and(|n| n <= most)
}

fn mac(text: &str) -> bool {
    let Some(separator) = text.chars().find(|c| !c.is_ascii_hexdigit()) else {
        return false;
    };
    let (width, counts) = match separator {
        ':' | '-' => (2, [6, 8, 20]),
        '.' => (4, [3, 4, 10]),
        _ => return false,
    };
    let parts: Vec<_> = text.split(separator).collect();
    counts.contains(&parts.len())
        && parts
            .iter()
            .all(|part| part.len() == width && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Hexadecimal digits, with or without dashes between the groups.
fn uuid(text: &str, version: Option<u8>, variant: bool) -> bool {
    let mut bytes = text.bytes().peekable();
    let mut digits = Vec::with_capacity(32);
    for group in [8, 4, 4, 4, 12] {
        if !digits.is_empty() {
            bytes.next_if_eq(&b'-');
        }
        for _ in 0..group {
            match bytes.next() {
                Some(b) if b.is_ascii_hexdigit() => digits.push(b.to_ascii_lowercase()),
                _ => return false,
            }
        }
    }
    bytes.next().is_none()
        && version.is_none_or(|v| digits.get(12) == Some(&v))
        && (!variant || digits.get(16).is_some_and(|b| b"89ab".contains(b)))
}

fn isbn_digits(text: &str) -> Vec<u8> {
    let dropped = |b: &u8| !matches!(b, b'-' | b' ' | b'\t' | b'\n' | 0x0c | b'\r');
    text.bytes().filter(dropped).collect()
}

fn isbn10(text: &str) -> bool {
    let digits = isbn_digits(text);
    let mut sum = 0;
    for (digit, weight) in digits.iter().zip(1u32..) {
        sum += weight
            * match digit {
                b'0'..=b'9' => u32::from(digit - b'0'),
                b'X' if weight == 10 => 10,
                _ => return false,
            };
    }
    digits.len() == 10 && sum.is_multiple_of(11)
}

fn isbn13(text: &str) -> bool {
    let digits = isbn_digits(text);
    if digits.len() != 13 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let weighted = digits.iter().zip([1u32, 3].into_iter().cycle());
    weighted
        .map(|(d, w)| u32::from(d - b'0') * w)
        .sum::<u32>()
        .is_multiple_of(10)
}

fn credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let sum: u32 = digits
        .bytes()
        .rev()
        .zip([1u32, 2].into_iter().cycle())
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .map(|n| if n >= 10 { n % 10 + 1 } else { n })
        .sum();
    matches(&CREDIT_CARD, &digits) && sum.is_multiple_of(10)
}

fn date(text: &str) -> bool {
    let shape = text.len() == 10
        && text.bytes().enumerate().all(|(i, b)| {
            if i == 4 || i == 7 {
                b == b'-'
            } else {
                b.is_ascii_digit()
            }
        });
    shape && text.parse::<jiff::civil::Date>().is_ok()
}

fn date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(day), Some(time)) = (parts.next(), parts.next()) else {
        return false;
    };
    let Some(found) = TIME.as_ref().and_then(|p| p.captures(time)) else {
        return false;
    };
    let part = |i| found.get(i).map_or("", |m| m.as_str());
    date(day) && part(1) <= "23" && part(2) <= "59" && part(3) <= "59"
}

/// Go's notation (`1h30m`), or numbers with units spelled in words (`2 weeks`) anywhere in the text.
fn duration(text: &str) -> bool {
    const EXACT: [&str; 10] = ["ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w"];
    const STARTS: [&str; 8] = ["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
    if matches(&GO_DURATION, text) {
        return true;
    }
    let Some(pattern) = DURATION.as_ref() else {
        return false;
    };
    let mut any = false;
    for found in pattern.captures_iter(text) {
        let part = |i| found.get(i).map_or("", |m| m.as_str());
        if part(1).parse::<i64>().is_err() {
            return false;
        }
        let unit = part(2).to_lowercase();
        any |= unit == "wk" || EXACT.contains(&unit.as_str()) || STARTS.iter().any(|s| unit.starts_with(s));
    }
    any
}

/// An absolute URI, or a path from the root, as a request line has it.
fn uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return false;
    }
    if text == "*" {
        return true;
    }
    let scheme_end = text.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
    let mut rest = text;
    let mut absolute = false;
    if let Some(end) = scheme_end
        && text[end..].starts_with(':')
    {
        if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return false;
        }
        rest = &text[end + 1..];
        absolute = true;
    }
    let rest = rest.split('?').next().unwrap_or_default();
    if !rest.starts_with('/') {
        return absolute;
    }
    let (host, path) = match rest.strip_prefix("//").filter(|_| absolute) {
        Some(after) => after.split_at(after.find('/').unwrap_or(after.len())),
        None => ("", rest),
    };
    authority(host) && escapes(path)
}

fn authority(text: &str) -> bool {
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    let port = match host.rfind(']') {
        Some(end) => &host[end + 1..],
        None => host.find(':').map_or("", |at| &host[at..]),
    };
    let port_is_number = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    port_is_number
        && host.starts_with('[') == host.contains(']')
        && escapes(host)
        && !host.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '|', '}'])
}

/// Whether each `%` is followed by two hexadecimal digits.
fn escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let mut digits = after.bytes();
        digits.next().is_some_and(|b| b.is_ascii_hexdigit())
            && digits.next().is_some_and(|b| b.is_ascii_hexdigit())
    })
}

/// An address as mail headers have it: `a@b`, or `Name <a@b>`.
fn email(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t']);
    let address = match text.strip_suffix('>') {
        Some(inner) => match inner.rsplit_once('<') {
            Some((_, address)) => address,
            None => return false,
        },
        None => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    let atoms = |s: &str| {
        s.split('.').all(|atom| {
            !atom.is_empty()
                && atom
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii())
        })
    };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let literal = domain.starts_with('[') && domain.ends_with(']');
    (quoted || atoms(local)) && (literal || atoms(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_accept_what_kubernetes_accepts() {
        let cases: [(&str, &[&str], &[&str]); 21] = [
            (
                "date-time",
                &["2024-01-02T03:04:05Z", "2024-02-29t23:59:59.123+01:00"],
                &[
                    "yesterday",
                    "2023-02-29T00:00:00Z",
                    "2024-01-02T24:00:00Z",
                    "2024-01-02",
                ],
            ),
            (
                "date",
                &["2024-01-02"],
                &["2024-1-2", "2024-13-01", "/not valid/"],
            ),
            (
                "ipv4",
                &["10.0.0.1", "010.0.0.1", "::ffff:1.2.3.4"],
                &["300.1.1.1", "1.2.3", "::1"],
            ),
            (
                "ipv6",
                &["::1", "fe80::1"],
                &["1.2.3.4", "fe80::1%eth0", "/not valid/"],
            ),
            (
                "cidr",
                &["10.0.0.0/8", "::/0"],
                &["10.0.0.0/33", "10.0.0.0", "/not valid/"],
            ),
            (
                "mac",
                &["00:11:22:33:44:55", "0011.2233.4455"],
                &["00:11", "/not valid/"],
            ),
            (
                "uuid",
                &[
                    "6BA7B810-9dad-11d1-80b4-00c04fd430c8",
                    "6ba7b8109dad11d180b400c04fd430c8",
                ],
                &["zz", ""],
            ),
            (
                "uuid4",
                &["f47ac10b-58cc-4372-a567-0e02b2c3d479"],
                &["f47ac10b-58cc-5372-a567-0e02b2c3d479"],
            ),
            (
                "hostname",
                &["example.com", "a", "x-y.example.org"],
                &["/not valid/", "a b", "-a"],
            ),
            (
                "email",
                &["a@b.c", "Joe <joe@x.org>", "\"q u\"@x"],
                &["/not valid/", "a", "a@", "@b"],
            ),
            (
                "uri",
                &["http://example.com/a?b=c", "/path", "mailto:x"],
                &["example.com", "", "http://a b/", "http://h:x/", "/%zz"],
            ),
            ("byte", &["aGk=", "aGVsbG8h"], &["", "a", "/not valid/"]),
            (
                "duration",
                &["1h30m", "0", "2 weeks", "22 ns", "-1.5s"],
                &["1 parsec", "", "h"],
            ),
            ("isbn10", &["0321751043", "080442957X"], &["0321751044"]),
            ("isbn13", &["978-0321751041"], &["978-0321751042"]),
            ("creditcard", &["4111-1111-1111-1111"], &["4111-1111-1111-1112"]),
            ("ssn", &["123-45-6789"], &["123456789", "12-345-6789"]),
            ("hexcolor", &["#fff", "AABBCC"], &["#ff"]),
            ("rgbcolor", &["rgb(1, 2,255)"], &["rgb(1,2,256)"]),
            ("bsonobjectid", &["507f1f77bcf86cd799439011"], &["507f"]),
            ("k8s-long-name", &["a.b-c"], &["A", "a..b", ""]),
        ];
        for (name, good, bad) in cases {
            let format = named(name).unwrap();
            for text in good {
                assert!(format.accepts(text), "{text:?} is a {name}");
            }
            for text in bad {
                assert!(!format.accepts(text), "{text:?} is no {name}");
            }
        }
    }
}
