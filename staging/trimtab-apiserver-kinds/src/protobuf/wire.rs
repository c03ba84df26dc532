//! The wire format of protobuf: tags, variable-length integers, and runs of bytes.

use super::Error;

/// A variable-length integer.
pub(super) const VARINT: u64 = 0;
/// Eight bytes.
pub(super) const FIXED64: u64 = 1;
/// A length, then as many bytes.
pub(super) const BYTES: u64 = 2;
const GROUP: u64 = 3;
const END_OF_GROUP: u64 = 4;
const FIXED32: u64 = 5;

/// What a field's bytes are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// Groups and four-byte values: no field of Kubernetes has them.
    Other(u64),
}

impl Raw<'_> {
    pub(super) fn wire_type(self) -> u64 {
        match self {
            Raw::Varint(_) => VARINT,
            Raw::Fixed64(_) => FIXED64,
            Raw::Bytes(_) => BYTES,
            Raw::Other(wire_type) => wire_type,
        }
    }
}

/// Reads the fields of one message, in the order in which they are written.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and bytes; `None` at the end.
    pub(super) fn field(&mut self) -> Result<Option<(u64, Raw<'a>)>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.tag()?;
        Ok(Some((number, self.raw(wire_type)?)))
    }

    /// The next integer of a packed list; `None` at the end.
    pub(super) fn packed(&mut self) -> Result<Option<u64>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.varint().map(Some)
    }

    fn tag(&mut self) -> Result<(u64, u64), Error> {
        let tag = self.varint()?;
        let (number, wire_type) = (tag >> 3, tag & 7);
        if number == 0 || number > u64::from(u32::MAX >> 3) {
            return Err(Error::IllegalTag(number, wire_type));
        }
        Ok((number, wire_type))
    }

    fn raw(&mut self, wire_type: u64) -> Result<Raw<'a>, Error> {
        Ok(match wire_type {
            VARINT => Raw::Varint(self.varint()?),
            FIXED64 => {
                let bytes = self.take(8)?;
                Raw::Fixed64(u64::from_le_bytes(
                    bytes.try_into().map_err(|_| Error::Truncated)?,
                ))
            }
            BYTES => {
                let length = usize::try_from(self.varint()?).map_err(|_| Error::Truncated)?;
                Raw::Bytes(self.take(length)?)
            }
            GROUP => {
                self.skip_group()?;
                Raw::Other(GROUP)
            }
            FIXED32 => {
                self.take(4)?;
                Raw::Other(FIXED32)
            }
            END_OF_GROUP => return Err(Error::EndOfGroup),
            other => return Err(Error::IllegalTag(0, other)),
        })
    }

    /// Groups may hold groups: they are counted, so that no depth of them needs any stack.
    fn skip_group(&mut self) -> Result<(), Error> {
        let mut open = 1_usize;
        while open > 0 {
            match self.tag()?.1 {
                GROUP => open += 1,
                END_OF_GROUP => open -= 1,
                other => {
                    self.raw(other)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(Error::Truncated)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::Overflow)
    }
}

/// Writes a variable-length integer.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // The lowest seven bits, and the sign that more follow.
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes an integer field.
pub(super) fn put_int(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 3 | VARINT);
    put_varint(out, value);
}

/// Writes a field of eight bytes.
pub(super) fn put_fixed64(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 3 | FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Writes a field of bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
