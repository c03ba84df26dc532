//! Reading the compact form: a serde deserializer, and a way to one field.
//!
//! What is read reads as `serde_json` reads the text that it was made of.

use std::borrow::Cow;

use serde::de::Error as _;

use super::share::Shared;
use super::words::Words;
use super::{Document, tag};

mod de;

/// Why a document cannot be read as a type. The same as of a JSON text, but without line and column.
pub(crate) type Error = serde_json::Error;

/// Where one is in a document.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    shared: std::slice::Iter<'a, Shared>,
    words: &'a Words,
    /// What is to be left out of what is decoded.
    omit: Omit,
}

/// Where the fields are that are to be left out, seen from where one is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Omit {
    Nothing,
    /// The managed fields of the object that is here.
    Managed,
    /// The managed fields in the metadata that are here.
    ManagedOfThis,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(document: &'a Document, words: &'a Words) -> Self {
        Self {
            bytes: &document.bytes,
            shared: document.shared.iter(),
            words,
            omit: Omit::Nothing,
        }
    }

    /// Leaves out the managed fields of the object that is here, when it is decoded.
    pub(crate) fn unmanaged(self) -> Self {
        Self {
            omit: Omit::Managed,
            ..self
        }
    }

    /// The value at this path of names of fields and places in arrays.
    pub(crate) fn find<'p>(mut self, path: impl IntoIterator<Item = &'p str>) -> Result<Option<Self>, Error> {
        for step in path {
            let Some(inner) = self.enter(step)? else {
                return Ok(None);
            };
            self = inner;
        }
        Ok(Some(self))
    }

    fn enter(mut self, step: &str) -> Result<Option<Self>, Error> {
        match self.tag()? {
            tag::SHARED => self.subtree()?.enter(step),
            tag::OBJECT => {
                while self.peek()? != tag::END {
                    let name = self.string()?;
                    if name == step {
                        return Ok(Some(self));
                    }
                    self.skip()?;
                }
                Ok(None)
            }
            tag::ARRAY => {
                let Ok(mut left) = step.parse::<usize>() else {
                    return Ok(None);
                };
                while self.peek()? != tag::END {
                    if left == 0 {
                        return Ok(Some(self));
                    }
                    left -= 1;
                    self.skip()?;
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// The string that is here; `None` if something else is.
    pub(crate) fn text(mut self) -> Option<Cow<'a, str>> {
        match self.peek().ok()? {
            tag::SHARED => {
                self.tag().ok()?;
                self.subtree().ok()?.text()
            }
            tag if is_string(tag) => self.string().ok(),
            _ => None,
        }
    }

    /// The number that is here, if it is one without sign.
    pub(crate) fn number(mut self) -> Option<u64> {
        match self.tag().ok()? {
            small @ tag::SMALL..tag::SHORT => Some(u64::from(small - tag::SMALL)),
            tag::UNSIGNED => self.varint().ok(),
            _ => None,
        }
    }

    /// Whether null is here.
    pub(crate) fn is_null(&self) -> bool {
        self.peek().is_ok_and(|tag| tag == tag::NULL)
    }

    /// Calls `each` with where every element of the array is that is here. Does nothing if something else is here.
    pub(crate) fn elements(mut self, mut each: impl FnMut(Self)) -> Result<(), Error> {
        match self.tag()? {
            tag::SHARED => self.subtree()?.elements(each),
            tag::ARRAY => {
                while self.peek()? != tag::END {
                    each(self.clone());
                    self.skip()?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    #[inline]
    fn peek(&self) -> Result<u8, Error> {
        self.bytes.first().copied().ok_or_else(broken)
    }

    #[inline]
    fn tag(&mut self) -> Result<u8, Error> {
        let (tag, rest) = self.bytes.split_first().ok_or_else(broken)?;
        self.bytes = rest;
        Ok(*tag)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or_else(broken)?;
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Error> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.tag()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(broken())
    }

    #[inline]
    fn length(&mut self) -> Result<usize, Error> {
        usize::try_from(self.varint()?).map_err(|_| broken())
    }

    /// The shared sub-tree whose tag has been read.
    fn subtree(&mut self) -> Result<Self, Error> {
        let subtree: &'a Shared = self.shared.next().ok_or_else(broken)?;
        Ok(Self {
            bytes: &subtree.bytes,
            shared: subtree.shared.iter(),
            words: self.words,
            omit: self.omit,
        })
    }

    #[inline]
    fn string(&mut self) -> Result<Cow<'a, str>, Error> {
        let tag = self.tag()?;
        self.string_of(tag)
    }

    #[inline]
    fn string_of(&mut self, tag: u8) -> Result<Cow<'a, str>, Error> {
        let word = |words: &'a Words, number| words.get(number).map(Cow::Borrowed).ok_or_else(broken);
        match tag {
            tag::WORD.. => word(self.words, u16::from(tag - tag::WORD)),
            tag::RARE_WORD.. => {
                let low = self.tag()?;
                word(self.words, 128 + u16::from_be_bytes([tag - tag::RARE_WORD, low]))
            }
            tag::SHORT.. => utf8(self.take(usize::from(tag - tag::SHORT))?),
            tag::STRING => {
                let length = self.length()?;
                utf8(self.take(length)?)
            }
            _ => self.packed(tag).map(Cow::Owned),
        }
    }

    fn packed(&mut self, tag: u8) -> Result<String, Error> {
        match tag {
            tag::TIME => ascii(&self.time()?).map(str::to_owned),
            tag::UUID => ascii(&self.uuid()?).map(str::to_owned),
            tag::DIGEST => {
                let mut text = self.string()?.into_owned();
                let length = self.length()?;
                let digits = self.take(length)?;
                text.reserve_exact(digits.len() * 2);
                text.extend(digits.iter().flat_map(|byte| hex(*byte)).map(char::from));
                Ok(text)
            }
            _ => Err(broken()),
        }
    }

    /// The time whose tag has been read.
    fn time(&mut self) -> Result<[u8; 20], Error> {
        Ok(time(self.varint()?))
    }

    /// The UUID whose tag has been read.
    fn uuid(&mut self) -> Result<[u8; 36], Error> {
        let mut text = [b'-'; 36];
        let places = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
        for (byte, at) in self.take(16)?.iter().zip(places) {
            [text[at], text[at + 1]] = hex(*byte);
        }
        Ok(text)
    }

    fn skip_string(&mut self, tag: u8) -> Result<(), Error> {
        let length = match tag {
            tag::WORD.. => 0,
            tag::RARE_WORD.. => 1,
            tag::SHORT.. => usize::from(tag - tag::SHORT),
            tag::UUID => 16,
            tag::STRING => self.length()?,
            tag::TIME => self.varint().map(|_| 0)?,
            tag::DIGEST => {
                let inner = self.tag()?;
                self.skip_string(inner)?;
                self.length()?
            }
            _ => return Err(broken()),
        };
        self.take(length).map(|_| ())
    }

    fn skip(&mut self) -> Result<(), Error> {
        let mut depth = 0_usize;
        loop {
            match self.tag()? {
                tag::NULL | tag::FALSE | tag::TRUE | tag::SMALL..tag::SHORT => {}
                tag::OBJECT | tag::ARRAY => depth += 1,
                tag::END => depth = depth.checked_sub(1).ok_or_else(broken)?,
                tag::SHARED => self.shared.next().map(|_| ()).ok_or_else(broken)?,
                tag::UNSIGNED | tag::NEGATIVE => self.varint().map(|_| ())?,
                tag::FLOAT => self.take(8).map(|_| ())?,
                tag => self.skip_string(tag)?,
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

#[inline]
fn is_string(tag: u8) -> bool {
    matches!(
        tag,
        tag::STRING | tag::TIME | tag::UUID | tag::DIGEST | tag::SHORT..
    )
}

/// What cannot be: a document is made by the encoder only.
fn broken() -> Error {
    Error::custom("the cached form of the object is broken")
}

#[inline]
fn utf8(bytes: &[u8]) -> Result<Cow<'_, str>, Error> {
    std::str::from_utf8(bytes)
        .map(Cow::Borrowed)
        .map_err(|_| broken())
}

#[inline]
fn ascii(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| broken())
}

#[inline]
fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// The days from 1970 to a date of the Gregorian calendar, if there is such a date.
pub(super) fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [
        31,
        if leap(year) { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let month = usize::try_from(month.checked_sub(1)?).ok()?;
    if year < 1970 || !(1..=*lengths.get(month)?).contains(&day) {
        return None;
    }
    let leap_years = |before: u64| (before - 1) / 4 - (before - 1) / 100 + (before - 1) / 400;
    let years = (year - 1970) * 365 + leap_years(year) - leap_years(1970);
    Some(years + lengths[..month].iter().sum::<u64>() + day - 1)
}

/// `2006-01-02T15:04:05Z`, of a year with four digits.
fn time(seconds: u64) -> [u8; 20] {
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    // Years from March on end with the day that leap years have more: then months are as good as equally long. Counted from
    // the March of the year 0, 400 years are 146,097 days. As in H. Hinnant's "chrono-compatible low-level date algorithms".
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = 400 * era + year + later;

    let mut text = *b"0000-00-00T00:00:00Z";
    let parts = [
        (0, year / 100),
        (2, year),
        (5, month),
        (8, day),
        (11, second / 3600),
        (14, second / 60),
        (17, second),
    ];
    for (at, number) in parts {
        let number = match at {
            14 | 17 => number % 60,
            _ => number % 100,
        };
        // Below 100.
        text[at] += (number / 10) as u8;
        text[at + 1] += (number % 10) as u8;
    }
    text
}
