//! A plain disk for the time until `storage::disk` is there: one thread, in order, nothing clever.
use bytes::Bytes;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Instant;
use storage::{Completion, DiskError, DiskErrorKind, DiskOp, DiskRead, FileId};

pub(crate) struct RealDisk {
    ops: mpsc::Sender<DiskOp>,
    reader: Arc<Reader>,
}

struct Reader {
    root: PathBuf,
}

fn fail(path: &Path, error: &io::Error) -> DiskError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => DiskErrorKind::NotFound,
        io::ErrorKind::StorageFull => DiskErrorKind::Full,
        _ => DiskErrorKind::Io,
    };
    DiskError { kind, detail: format!("{}: {error}", path.display()) }
}

impl DiskRead for Reader {
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let path = self.root.join(dir);
        let mut names = Vec::new();
        match fs::read_dir(&path) {
            Ok(entries) => {
                for entry in entries {
                    names.push(entry.map_err(|e| fail(&path, &e))?.file_name().to_string_lossy().into_owned());
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(fail(&path, &e)),
        }
        names.sort();
        Ok(names)
    }

    fn len(&self, path: &str) -> Result<Option<u64>, DiskError> {
        let path = self.root.join(path);
        match fs::metadata(&path) {
            Ok(m) => Ok(Some(m.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(fail(&path, &e)),
        }
    }

    fn read(&self, path: &str, pos: u64, len: usize) -> Result<Bytes, DiskError> {
        let path = self.root.join(path);
        let file = File::open(&path).map_err(|e| fail(&path, &e))?;
        let size = file.metadata().map_err(|e| fail(&path, &e))?.len();
        let mut data = vec![0; len.min(size.saturating_sub(pos) as usize)];
        file.read_exact_at(&mut data, pos).map_err(|e| fail(&path, &e))?;
        Ok(Bytes::from(data))
    }
}

struct Writer {
    reader: Arc<Reader>,
    files: HashMap<FileId, (PathBuf, File)>,
    error: Option<DiskError>,
}

impl RealDisk {
    pub(crate) fn open(root: &Path, done: Box<dyn Fn(Completion) + Send>) -> io::Result<RealDisk> {
        fs::create_dir_all(root)?;
        let reader = Arc::new(Reader { root: root.to_path_buf() });
        let mut writer = Writer { reader: reader.clone(), files: HashMap::new(), error: None };
        let (ops, receive) = mpsc::channel();
        std::thread::Builder::new().name("disk".into()).spawn(move || {
            while let Ok(op) = receive.recv() {
                if let Some(c) = writer.run(op) {
                    done(c);
                }
            }
        })?;
        Ok(RealDisk { ops, reader })
    }

    pub(crate) fn reader(&self) -> Arc<dyn DiskRead + Send + Sync> {
        self.reader.clone()
    }

    pub(crate) fn submit(&self, op: DiskOp) {
        let _ = self.ops.send(op);
    }
}

impl Writer {
    fn open(&mut self, id: FileId, path: &str, create: bool) -> io::Result<()> {
        let path = self.reader.root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().write(true).create(create).truncate(create).open(&path)?;
        self.files.insert(id, (path, file));
        Ok(())
    }

    fn keep(&mut self, result: io::Result<()>, what: &str) {
        if let Err(e) = result {
            self.error.get_or_insert(fail(Path::new(what), &e));
        }
    }

    fn outcome(&self) -> Result<(), DiskError> {
        self.error.clone().map_or(Ok(()), Err)
    }

    fn run(&mut self, op: DiskOp) -> Option<Completion> {
        match op {
            DiskOp::Create { file, path, .. } => {
                let r = self.open(file, &path, true);
                self.keep(r, &path);
            }
            DiskOp::Open { file, path } => {
                let r = self.open(file, &path, false);
                self.keep(r, &path);
            }
            DiskOp::Write { file, mut pos, bufs } => {
                let mut r = Ok(());
                if let Some((_, f)) = self.files.get(&file) {
                    for b in bufs {
                        if r.is_ok() {
                            r = f.write_all_at(&b, pos);
                        }
                        pos += b.len() as u64;
                    }
                }
                self.keep(r, "write");
            }
            DiskOp::Barrier { token } => return Some(Completion::Written { token, result: self.outcome() }),
            DiskOp::Sync { files, token } => {
                let begun = Instant::now();
                for id in files {
                    let r = match self.files.get(&id) {
                        Some((path, f)) => f
                            .sync_data()
                            .and_then(|()| path.parent().map_or(Ok(()), |p| File::open(p)?.sync_data())),
                        None => Ok(()),
                    };
                    self.keep(r, "sync");
                }
                let micros = begun.elapsed().as_micros() as u64;
                return Some(Completion::Synced { token, result: self.outcome(), micros });
            }
            DiskOp::Close { file } => {
                if let Some((_, f)) = self.files.remove(&file) {
                    let r = f.sync_data();
                    self.keep(r, "close");
                }
            }
            DiskOp::Put { path, bytes, token } => {
                let full = self.reader.root.join(&path);
                let tmp = full.with_extension("tmp");
                let put = || -> io::Result<()> {
                    if let Some(parent) = full.parent() {
                        fs::create_dir_all(parent)?;
                    }
                    fs::write(&tmp, &bytes)?;
                    File::open(&tmp)?.sync_all()?;
                    fs::rename(&tmp, &full)?;
                    full.parent().map_or(Ok(()), |p| File::open(p)?.sync_all())
                };
                let r = put();
                self.keep(r, &path);
                return Some(Completion::Put { token, result: self.outcome() });
            }
            DiskOp::Remove { paths, .. } => {
                for p in paths {
                    let _ = fs::remove_file(self.reader.root.join(p));
                }
            }
            DiskOp::RemoveDir { path } => {
                let _ = fs::remove_dir_all(self.reader.root.join(path));
            }
            DiskOp::Recover { job, token } => {
                let result = Box::new(storage::recovery::recover(&job, &*self.reader));
                return Some(Completion::Recovered { token, result });
            }
        }
        None
    }
}
