//! Reading the compact form: a serde deserializer, and a way to one field.
//!
//! What is read reads as `serde_json` reads the text that it was made of.

use std::borrow::Cow;
use std::fmt::Write as _;

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
}

impl<'a> Reader<'a> {
    pub(crate) fn new(document: &'a Document, words: &'a Words) -> Self {
        Self {
            bytes: &document.bytes,
            shared: document.shared.iter(),
            words,
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

    fn peek(&self) -> Result<u8, Error> {
        self.bytes.first().copied().ok_or_else(broken)
    }

    fn tag(&mut self) -> Result<u8, Error> {
        let (tag, rest) = self.bytes.split_first().ok_or_else(broken)?;
        self.bytes = rest;
        Ok(*tag)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or_else(broken)?;
        self.bytes = rest;
        Ok(taken)
    }

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
        })
    }

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
            tag::TIME => Ok(time(self.varint()?)),
            tag::UUID => {
                let mut text = String::with_capacity(36);
                for (at, byte) in self.take(16)?.iter().enumerate() {
                    if matches!(at, 4 | 6 | 8 | 10) {
                        text.push('-');
                    }
                    push_hex(&mut text, *byte);
                }
                Ok(text)
            }
            tag::DIGEST => {
                let mut text = self.string()?.into_owned();
                let length = self.length()?;
                let digits = self.take(length)?;
                text.reserve_exact(digits.len() * 2);
                for byte in digits {
                    push_hex(&mut text, *byte);
                }
                Ok(text)
            }
            _ => Err(broken()),
        }
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

fn utf8(bytes: &[u8]) -> Result<Cow<'_, str>, Error> {
    std::str::from_utf8(bytes)
        .map(Cow::Borrowed)
        .map_err(|_| broken())
}

fn push_hex(text: &mut String, byte: u8) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    text.push(DIGITS[usize::from(byte >> 4)]);
    text.push(DIGITS[usize::from(byte & 15)]);
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

fn time(seconds: u64) -> String {
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    // A year is at least the days over the length of the longest one, and at most one more for each 1461 of them.
    let mut year = 1970 + day * 400 / 146_097;
    while days(year, 1, 1).is_some_and(|first| first > day) {
        year -= 1;
    }
    while days(year + 1, 1, 1).is_some_and(|first| first <= day) {
        year += 1;
    }
    let first_of = |month| days(year, month, 1).unwrap_or_default();
    let month = (1..=12).rev().find(|month| first_of(*month) <= day).unwrap_or(1);
    let mut text = String::with_capacity(20);
    let date = (
        day - first_of(month) + 1,
        second / 3600,
        second / 60 % 60,
        second % 60,
    );
    let (day, hour, minute, second) = date;
    // Writing to a string does not fail.
    let _written = write!(
        text,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
    );
    text
}
