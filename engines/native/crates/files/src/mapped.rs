use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result, IO};

/// A whole file, mapped or in memory.
pub(crate) enum Bytes {
    Map(Mmap),
    Memory(Vec<u8>),
}

impl Bytes {
    /// Maps a regular file for reading. Another process that shortens the file while it is mapped ends this one (SIGBUS on
    /// Unix); whoever replaces a checkpoint renames a whole new file into place, which is safe.
    pub fn map(path: &Path) -> Result<Self> {
        let io = |cause: std::io::Error| Error::io(path, &cause);
        // Looked at before it is opened: opening a named pipe would wait for a writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(Error::new(IO, "not a regular file").inside(path));
        }
        let file = File::open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(Error::new(IO, "not a regular file").inside(path));
        }
        // SAFETY: the mapping is read-only and private to this process; a file that changes meanwhile gives other bytes,
        // which are hostile input anyhow and only ever read as plain bytes.
        unsafe { Mmap::map(&file) }.map(Self::Map).map_err(io)
    }
}

impl Bytes {
    /// Lets the system take back the memory of the mapping; what is read again is read from the file again.
    pub fn release(&self) {
        #[cfg(unix)]
        if let Self::Map(map) = self {
            // SAFETY: the mapping is read-only and of a file, so dropped pages come back as they were.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Map(map) => map,
            Self::Memory(bytes) => bytes,
        }
    }
}
