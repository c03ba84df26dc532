//! Searching texts by regular expressions, and taking URLs apart.

use std::collections::{BTreeMap, HashMap};

use cel::common::types::{CelBool, CelInt, CelList, CelMap, CelMapKey, CelString};
use cel::common::value::Val;
use cel::{DeclarationError, Env, ExecutionError};

use super::super::super::{formats, regexes};
use super::opaque;

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    cel::add_member_overload!(env, fn find: (CelString, CelString) -> Result<CelString>)?;
    cel::add_member_overload!(env, fn find_all: (CelString, CelString) -> Result<CelList>)?;
    cel::add_member_overload!(env, fn find_some: (CelString, CelString, CelInt) -> Result<CelList>, name = "findAll")?;
    cel::add_overload!(env, fn url: (CelString) -> Result<Url>)?;
    cel::add_overload!(env, fn is_url: (CelString) -> CelBool, name = "isURL")?;
    cel::add_member_overload!(env, fn get_scheme: (Url) -> CelString)?;
    cel::add_member_overload!(env, fn get_host: (Url) -> CelString)?;
    cel::add_member_overload!(env, fn get_hostname: (Url) -> CelString)?;
    cel::add_member_overload!(env, fn get_port: (Url) -> CelString)?;
    cel::add_member_overload!(env, fn get_escaped_path: (Url) -> CelString)?;
    cel::add_member_overload!(env, fn get_query: (Url) -> CelMap)
}

fn pattern(text: &CelString<'_>) -> Result<regex::Regex, ExecutionError> {
    regexes::compile(text.inner())
        .map_err(|error| ExecutionError::function_error("find", format!("Illegal regex: {error}")))
}

fn find(this: &CelString<'_>, re: &CelString<'_>) -> Result<CelString<'static>, ExecutionError> {
    let found = pattern(re)?
        .find(this.inner())
        .map_or("", |m| m.as_str())
        .to_owned();
    Ok(found.into())
}

fn find_all(this: &CelString<'_>, re: &CelString<'_>) -> Result<CelList<'static>, ExecutionError> {
    find_some(this, re, &CelInt::from(-1))
}

/// A negative limit is none.
fn find_some(
    this: &CelString<'_>,
    re: &CelString<'_>,
    limit: &CelInt,
) -> Result<CelList<'static>, ExecutionError> {
    let limit = usize::try_from(*limit.inner()).unwrap_or(usize::MAX);
    let found: Vec<Box<dyn Val>> = pattern(re)?
        .find_iter(this.inner())
        .take(limit)
        .map(|m| -> Box<dyn Val> { Box::new(CelString::from(m.as_str().to_owned())) })
        .collect();
    Ok(found.into())
}

/// An absolute URI or path, in its parts.
#[derive(Clone, Debug, PartialEq)]
struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

opaque!(Url, "kubernetes.URL");

impl Url {
    fn parse(text: &str) -> Option<Self> {
        // Spaces in paths are fine here, unlike in other parts.
        if !formats::named("uri")?.accepts(text) {
            return None;
        }
        let (before, query) = text.split_once('?').unwrap_or((text, ""));
        let (scheme, rest) = match before.split_once(':') {
            Some((scheme, rest)) if !before.starts_with('/') => (scheme.to_lowercase(), rest),
            _ => (String::new(), before),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        Some(Self {
            scheme,
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    fn split_host(&self) -> (&str, &str) {
        let end = match self.host.rfind(']') {
            Some(bracket) => bracket + 1,
            None => self.host.find(':').unwrap_or(self.host.len()),
        };
        let (name, port) = self.host.split_at(end);
        (
            name.trim_start_matches('[').trim_end_matches(']'),
            port.strip_prefix(':').unwrap_or(port),
        )
    }
}

fn url(text: &CelString<'_>) -> Result<Url, ExecutionError> {
    let text = text.inner();
    Url::parse(text).ok_or_else(|| {
        let message =
            format!("URL parse error during conversion from string: parse {text:?}: invalid URI for request");
        ExecutionError::function_error("url", message)
    })
}

fn is_url(text: &CelString<'_>) -> CelBool {
    CelBool::from(Url::parse(text.inner()).is_some())
}

fn get_scheme(url: &Url) -> CelString<'static> {
    url.scheme.clone().into()
}

fn get_host(url: &Url) -> CelString<'static> {
    url.host.clone().into()
}

fn get_hostname(url: &Url) -> CelString<'static> {
    url.split_host().0.to_owned().into()
}

fn get_port(url: &Url) -> CelString<'static> {
    url.split_host().1.to_owned().into()
}

fn get_escaped_path(url: &Url) -> CelString<'static> {
    let mut escaped = String::with_capacity(url.path.len());
    for byte in url.path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*[]".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped.into()
}

fn get_query(url: &Url) -> CelMap<'static> {
    let mut values: BTreeMap<String, Vec<Box<dyn Val>>> = BTreeMap::new();
    for part in url.query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = Box::new(CelString::from(unescape(value)));
        values.entry(unescape(name)).or_default().push(value);
    }
    let fields = values
        .into_iter()
        .map(|(name, values)| -> (CelMapKey<'static>, Box<dyn Val>) {
            (CelMapKey::from(name), Box::new(CelList::from(values)))
        });
    fields.collect::<HashMap<_, _>>().into()
}

/// Resolves `+` and `%20`; what is no escape stays.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let digits = after.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        match (first, digits.and_then(|d| u8::from_str_radix(d, 16).ok())) {
            (b'+', _) => bytes.push(b' '),
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
