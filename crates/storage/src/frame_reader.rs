//! Frames of one file, one after the other, in reads that grow with what is found.
use crate::disk_op::{DiskError, DiskRead};
use crate::frame::{self, Frame, FrameError};
use bytes::Bytes;

const FIRST_READ: u64 = 4 << 10;
const LARGEST_READ: u64 = 1 << 20;

/// What stands at the reader's position.
#[derive(Debug)]
pub(crate) enum Next {
    /// A whole frame that passed its own checks; its chain is the caller's to compare.
    Frame(Frame),
    /// Anything else; the reader stays where it is.
    Bad(FrameError),
}

pub(crate) struct FrameReader<'a> {
    disk: &'a dyn DiskRead,
    path: String,
    pos: u64,
    end: u64,
    step: u64,
    buf: Bytes,
}

impl<'a> FrameReader<'a> {
    /// Frames of `path` in [pos, end).
    pub(crate) fn new(disk: &'a dyn DiskRead, path: String, pos: u64, end: u64) -> FrameReader<'a> {
        FrameReader { disk, path, pos, end, step: FIRST_READ, buf: Bytes::new() }
    }

    /// Where the next frame begins.
    pub(crate) fn pos(&self) -> u64 {
        self.pos
    }

    /// Whether no byte is left.
    pub(crate) fn at_end(&self) -> bool {
        self.pos >= self.end
    }

    /// The frame at the position.
    pub(crate) fn next(&mut self) -> Result<Next, DiskError> {
        loop {
            let error = match frame::cut(&self.buf) {
                Ok(frame) => {
                    let size = frame.raw.len();
                    self.buf = self.buf.slice(size..);
                    self.pos += size as u64;
                    return Ok(Next::Frame(frame));
                }
                Err(error) => error,
            };
            let needed = match error {
                FrameError::Short { needed } => Some(needed),
                FrameError::NotAFrame => frame::claimed_size(&self.buf),
                _ => None,
            };
            if !self.fill(needed.unwrap_or(0))? {
                return Ok(Next::Bad(error));
            }
        }
    }

    /// Index and chain field that the bytes at the position claim, whatever their version.
    pub(crate) fn claimed_link(&self) -> Option<(u64, u32)> {
        let index: [u8; 8] = self.buf.get(8..16)?.try_into().ok()?;
        let prev: [u8; 4] = self.buf.get(40..44)?.try_into().ok()?;
        Some((u64::from_le_bytes(index), u32::from_le_bytes(prev)))
    }

    /// Has at least `needed` bytes in the buffer; `false` when it had them before or the file ends first.
    fn fill(&mut self, needed: usize) -> Result<bool, DiskError> {
        let left = self.end.saturating_sub(self.pos);
        if needed <= self.buf.len() || needed as u64 > left {
            return Ok(false);
        }
        let want = self.step.max(needed as u64).min(left);
        self.step = (self.step * 4).min(LARGEST_READ);
        self.buf = self.disk.read(&self.path, self.pos, usize::try_from(want).unwrap_or(usize::MAX))?;
        Ok(self.buf.len() >= needed)
    }
}
