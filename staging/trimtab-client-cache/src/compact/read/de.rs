//! The deserializer over a document, and its way back to JSON.

use std::borrow::Cow;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::{Error, Omit, Reader, ascii, broken, is_string};
use crate::compact::tag;

/// The name by which `serde_json` asks for the text of a value.
const RAW: &str = "$serde_json::private::RawValue";

macro_rules! follow_shared {
    ($self:ident, $method:ident($($arguments:tt)*)) => {
        if $self.peek()? == tag::SHARED {
            $self.tag()?;
            return (&mut $self.subtree()?).$method($($arguments)*);
        }
    };
}

impl<'a> Deserializer<'a> for &mut Reader<'a> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tag()? {
            tag::NULL => visitor.visit_unit(),
            tag::FALSE => visitor.visit_bool(false),
            tag::TRUE => visitor.visit_bool(true),
            tag::UNSIGNED => visitor.visit_u64(self.varint()?),
            tag::NEGATIVE => visitor.visit_i64(!(self.varint()? as i64)),
            tag::FLOAT => visitor.visit_f64(self.float()?),
            small @ tag::SMALL..tag::SHORT => visitor.visit_u64(u64::from(small - tag::SMALL)),
            tag::SHARED => self.subtree()?.deserialize_any(visitor),
            tag::OBJECT => self.inside(|inside| visitor.visit_map(inside)),
            tag::ARRAY => self.inside(|inside| visitor.visit_seq(inside)),
            tag => self.visit_text(tag, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.peek()? {
            tag::NULL => {
                self.tag()?;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == RAW {
            let text = self.json()?;
            // Not from the slice: what is read may not borrow from it.
            return serde_json::Deserializer::from_reader(text.as_bytes())
                .deserialize_newtype_struct(name, visitor);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        follow_shared!(self, deserialize_enum(name, variants, visitor));
        match self.peek()? {
            tag::OBJECT => {
                self.tag()?;
                let value = visitor.visit_enum(Variant { reader: self })?;
                self.ended()?;
                Ok(value)
            }
            tag if is_string(tag) => visitor.visit_enum(self.string()?.into_deserializer()),
            _ => Err(Error::invalid_type(Unexpected::Other("a value"), &"an enum")),
        }
    }

    fn deserialize_bytes<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        follow_shared!(self, deserialize_bytes(visitor));
        match self.peek()? {
            tag if is_string(tag) => match self.string()? {
                Cow::Borrowed(text) => visitor.visit_borrowed_bytes(text.as_bytes()),
                Cow::Owned(text) => visitor.visit_byte_buf(text.into_bytes()),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.skip()?;
        visitor.visit_unit()
    }

    // As `serde_json` does, these take what they are asked for and nothing else: there is an instance of them for each type.

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.tag()? {
            tag::OBJECT => self.inside(|inside| visitor.visit_map(inside)),
            tag::ARRAY => self.inside(|inside| visitor.visit_seq(inside)),
            tag::SHARED => self.subtree()?.deserialize_struct(name, fields, visitor),
            tag => Err(self.mismatch(tag, &visitor)),
        }
    }

    fn deserialize_map<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tag()? {
            tag::OBJECT => self.inside(|inside| visitor.visit_map(inside)),
            tag::SHARED => self.subtree()?.deserialize_map(visitor),
            tag => Err(self.mismatch(tag, &visitor)),
        }
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tag()? {
            tag::ARRAY => self.inside(|inside| visitor.visit_seq(inside)),
            tag::SHARED => self.subtree()?.deserialize_seq(visitor),
            tag => Err(self.mismatch(tag, &visitor)),
        }
    }

    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tag()? {
            tag::SHARED => self.subtree()?.deserialize_str(visitor),
            tag if is_string(tag) => self.visit_text(tag, visitor),
            tag => Err(self.mismatch(tag, &visitor)),
        }
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    forward_to_deserialize_any! {
        <W: Visitor<'a>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char unit unit_struct tuple tuple_struct identifier
    }
}

impl<'a> Reader<'a> {
    /// Reads what is between the beginning of an object or array, which has been read, and its end.
    fn inside<T>(&mut self, read: impl FnOnce(Inside<'_, 'a>) -> Result<T, Error>) -> Result<T, Error> {
        let value = read(Inside::of(self))?;
        self.ended()?;
        Ok(value)
    }

    /// Reads a text of any form. Its tag has been read.
    fn visit_text<V: Visitor<'a>>(&mut self, tag: u8, visitor: V) -> Result<V::Value, Error> {
        match tag {
            // Most of these are read as something else than texts.
            tag::TIME => visitor.visit_str(ascii(&self.time()?)?),
            tag::UUID => visitor.visit_str(ascii(&self.uuid()?)?),
            tag => match self.string_of(tag)? {
                Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
                Cow::Owned(text) => visitor.visit_string(text),
            },
        }
    }

    fn float(&mut self) -> Result<f64, Error> {
        let bytes = self.take(8)?.try_into().map_err(|_| broken())?;
        Ok(f64::from_le_bytes(bytes))
    }

    /// The error of a value that is something else than what was asked for. Its tag has been read.
    #[cold]
    fn mismatch(&mut self, tag: u8, expected: &dyn Expected) -> Error {
        let found = match tag {
            tag::NULL => Ok(Error::invalid_type(Unexpected::Unit, expected)),
            tag::FALSE | tag::TRUE => Ok(Error::invalid_type(Unexpected::Bool(tag == tag::TRUE), expected)),
            tag::UNSIGNED => self
                .varint()
                .map(|number| Error::invalid_type(Unexpected::Unsigned(number), expected)),
            tag::NEGATIVE => self
                .varint()
                .map(|number| Error::invalid_type(Unexpected::Signed(!(number as i64)), expected)),
            small @ tag::SMALL..tag::SHORT => {
                let number = u64::from(small - tag::SMALL);
                Ok(Error::invalid_type(Unexpected::Unsigned(number), expected))
            }
            tag::FLOAT => self
                .float()
                .map(|number| Error::invalid_type(Unexpected::Float(number), expected)),
            tag::OBJECT => Ok(Error::invalid_type(Unexpected::Map, expected)),
            tag::ARRAY => Ok(Error::invalid_type(Unexpected::Seq, expected)),
            tag if is_string(tag) => self
                .string_of(tag)
                .map(|text| Error::invalid_type(Unexpected::Str(&text), expected)),
            _ => Ok(broken()),
        };
        found.unwrap_or_else(|broken| broken)
    }

    /// Reads the end of an object or array. A visitor that wants fewer elements than there are leaves some.
    fn ended(&mut self) -> Result<(), Error> {
        match self.tag()? {
            tag::END => Ok(()),
            _ => Err(Error::custom("more elements than expected")),
        }
    }

    /// The JSON text of the value.
    pub(crate) fn json(&mut self) -> Result<String, Error> {
        let mut text = Vec::new();
        let mut serializer = serde_json::Serializer::new(&mut text);
        transcode(self, &mut serializer)?;
        String::from_utf8(text).map_err(|_| broken())
    }
}

/// Writes the value as it is, with the order and the repetitions of its fields.
fn transcode(reader: &mut Reader<'_>, out: &mut serde_json::Serializer<&mut Vec<u8>>) -> Result<(), Error> {
    use serde::ser::{SerializeMap as _, SerializeSeq as _};

    struct Transcoded<'r, 'a>(std::cell::RefCell<&'r mut Reader<'a>>);

    impl serde::Serialize for Transcoded<'_, '_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let reader = &mut **self.0.borrow_mut();
            write(reader, serializer)
        }
    }

    fn write<S: serde::Serializer>(reader: &mut Reader<'_>, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        let failed = |error: Error| S::Error::custom(error);
        match reader.tag().map_err(failed)? {
            tag::NULL => serializer.serialize_unit(),
            tag::FALSE => serializer.serialize_bool(false),
            tag::TRUE => serializer.serialize_bool(true),
            tag::UNSIGNED => serializer.serialize_u64(reader.varint().map_err(failed)?),
            tag::NEGATIVE => serializer.serialize_i64(!(reader.varint().map_err(failed)? as i64)),
            tag::FLOAT => serializer.serialize_f64(reader.float().map_err(failed)?),
            small @ tag::SMALL..tag::SHORT => serializer.serialize_u64(u64::from(small - tag::SMALL)),
            tag::SHARED => write(&mut reader.subtree().map_err(failed)?, serializer),
            tag::OBJECT => {
                let mut object = serializer.serialize_map(None)?;
                while reader.peek().map_err(failed)? != tag::END {
                    let name = reader.string().map_err(failed)?;
                    object.serialize_entry(&*name, &Transcoded(std::cell::RefCell::new(reader)))?;
                }
                reader.tag().map_err(failed)?;
                object.end()
            }
            tag::ARRAY => {
                let mut array = serializer.serialize_seq(None)?;
                while reader.peek().map_err(failed)? != tag::END {
                    array.serialize_element(&Transcoded(std::cell::RefCell::new(reader)))?;
                }
                reader.tag().map_err(failed)?;
                array.end()
            }
            tag => serializer.serialize_str(&reader.string_of(tag).map_err(failed)?),
        }
    }

    write(reader, out)
}

/// The inside of an object or array.
struct Inside<'r, 'a> {
    reader: &'r mut Reader<'a>,
    /// What is to be left out here.
    omit: Omit,
    /// What is to be left out of the next value.
    below: Omit,
}

impl<'r, 'a> Inside<'r, 'a> {
    fn of(reader: &'r mut Reader<'a>) -> Self {
        let omit = std::mem::replace(&mut reader.omit, Omit::Nothing);
        Self {
            reader,
            omit,
            below: Omit::Nothing,
        }
    }
}

/// The name of a field, which can be asked for as a number, too.
struct Name<'a>(Cow<'a, str>);

struct Variant<'r, 'a> {
    reader: &'r mut Reader<'a>,
}

impl<'a> MapAccess<'a> for Inside<'_, 'a> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        loop {
            if self.reader.peek()? == tag::END {
                return Ok(None);
            }
            let name = self.reader.string()?;
            match self.omit {
                Omit::Nothing => {}
                Omit::Managed if name == "metadata" => self.below = Omit::ManagedOfThis,
                Omit::ManagedOfThis if name == "managedFields" => {
                    self.reader.skip()?;
                    continue;
                }
                Omit::Managed | Omit::ManagedOfThis => self.below = Omit::Nothing,
            }
            return seed.deserialize(Name(name)).map(Some);
        }
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.reader.omit = self.below;
        let value = seed.deserialize(&mut *self.reader);
        // Who reads no object, or not as one, has left it.
        self.reader.omit = Omit::Nothing;
        value
    }
}

impl<'a> SeqAccess<'a> for Inside<'_, 'a> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.reader.peek()? == tag::END {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

macro_rules! parsed_names {
    ($($method:ident $visit:ident $type:ty,)*) => {
        $(fn $method<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0.parse::<$type>() {
                Ok(number) => visitor.$visit(number),
                Err(_) => Err(Error::invalid_type(Unexpected::Str(&self.0), &visitor)),
            }
        })*
    };
}

impl<'a> Deserializer<'a> for Name<'a> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    parsed_names! {
        deserialize_bool visit_bool bool,
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_i128 visit_i128 i128,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
        deserialize_u128 visit_u128 u128,
        deserialize_f32 visit_f32 f32,
        deserialize_f64 visit_f64 f64,
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    forward_to_deserialize_any! {
        <W: Visitor<'a>>
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'a> EnumAccess<'a> for Variant<'_, 'a> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'a>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        if self.reader.peek()? == tag::END {
            return Err(Error::invalid_length(0, &"the name of a variant"));
        }
        let name = Name(self.reader.string()?);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'a> VariantAccess<'a> for Variant<'_, 'a> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        serde::Deserialize::deserialize(&mut *self.reader)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(&mut *self.reader)
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.reader.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'a>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.reader.deserialize_map(visitor)
    }
}
