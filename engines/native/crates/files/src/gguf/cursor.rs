use super::truncated;
use crate::error::Result;

/// Reads a file front to back; never past its end.
pub(super) struct Cursor<'a> {
    file: &'a [u8],
    place: usize,
}

impl<'a> Cursor<'a> {
    /// Begins at `place`, which lies in the file.
    pub fn new(file: &'a [u8], place: usize) -> Self {
        Self { file, place: place.min(file.len()) }
    }

    pub fn file(&self) -> &'a [u8] {
        self.file
    }

    /// Place in the file.
    pub fn place(&self) -> usize {
        self.place
    }

    /// Bytes not yet read.
    pub fn left(&self) -> usize {
        self.file.len() - self.place
    }

    /// The next `count` bytes; `what` names them in the error.
    pub fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8]> {
        if count > self.left() as u64 {
            return Err(truncated(format!("{what} takes {count} bytes at {}, {} follow", self.place, self.left())));
        }
        let bytes = &self.file[self.place..][..count as usize];
        self.place += count as usize;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64, what)?);
        Ok(bytes)
    }

    pub fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A length and that many bytes.
    pub fn text(&mut self, what: &str) -> Result<&'a [u8]> {
        let length = self.u64(what)?;
        self.take(length, what)
    }
}
