//! The answer of a list, written piece by piece: however long it is, only a piece of it is ever in memory.

use std::sync::Arc;
use std::vec;

use bytes::Bytes;
use trimtab_apimachinery_meta::ApiError;

use super::codec::Codec;
use super::item::{Item, Renderer};
use super::list::Page;
use super::shape::Shaper;
use crate::api::OutputShape;

/// About how long a piece is, in bytes.
const PIECE: usize = 64 * 1024;

/// The pieces of a list's JSON.
#[derive(Debug)]
pub(super) struct Listing {
    items: vec::IntoIter<Arc<Item>>,
    shaper: Shaper,
    codec: Codec,
    renderer: Renderer,
    /// What comes before the items; `None` once it has been written.
    head: Option<String>,
    tail: &'static str,
    /// How long an item has been so far, about.
    usual: usize,
}

impl Listing {
    /// A list of these objects, which can be decoded.
    pub(super) fn new(page: Page<Arc<Item>>, shaper: Shaper, codec: Codec) -> Self {
        let (head, tail) = shaper.list_frame(&page);
        Self {
            items: page.objects.into_iter(),
            renderer: Renderer::new(&codec.resource),
            shaper,
            codec,
            head: Some(head),
            tail,
            usual: 1024,
        }
    }

    fn write(&self, item: &Item, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let written = match self.shaper.shape() {
            OutputShape::Table => false,
            _ if !self.codec.serves_bytes_of(item) => false,
            // The list says what kind the items of built-in kinds are.
            OutputShape::Object if !self.codec.resource.custom => Renderer::list_item(item, out),
            OutputShape::Object => self.renderer.object(item, item.revision, out),
            OutputShape::PartialMetadata | OutputShape::PartialMetadataList => {
                Renderer::partial(item, item.revision, out)
            }
        };
        if written {
            return Ok(());
        }
        let object = self.codec.decode_alone(item, item.revision)?;
        let object = self.shaper.list_item(object);
        serde_json::to_writer(out, &object).map_err(ApiError::internal)
    }

    fn piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        let left = self.items.len();
        let mut first = false;
        let mut out = Vec::with_capacity(PIECE.min(left * self.usual) + 1024);
        match self.head.take() {
            Some(head) => {
                out.extend_from_slice(head.as_bytes());
                first = true;
            }
            None if self.tail.is_empty() => return Ok(None),
            None => {}
        }
        let start = out.len();
        while out.len() < PIECE {
            let Some(item) = self.items.next() else {
                out.extend_from_slice(self.tail.as_bytes());
                out.push(b'\n');
                self.tail = "";
                break;
            };
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            self.write(&item, &mut out)?;
        }
        let written = left - self.items.len();
        self.usual = (out.len() - start).checked_div(written).unwrap_or(self.usual);
        Ok(Some(out.into()))
    }
}

impl Iterator for Listing {
    type Item = Result<Bytes, ApiError>;

    fn next(&mut self) -> Option<Self::Item> {
        let piece = self.piece();
        if piece.is_err() {
            // There is no end to what has no middle.
            self.tail = "";
            self.items = Vec::new().into_iter();
        }
        piece.transpose()
    }
}
