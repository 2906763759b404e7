//! Lock: one `verify` at a time in a folder that it builds in.

use super::workshop::WorkshopError;
use crate::work::Progress;
use std::fs::{self, File};
use std::path::Path;

/// Waits until no other `verify` works in `folder`. `runs` is what that one does there.
pub(crate) fn lock(folder: &Path, runs: &str, progress: &Progress) -> Result<File, WorkshopError> {
    let path = folder.join("lock");
    let fail = |error| WorkshopError::File(path.clone(), error);
    fs::create_dir_all(folder).map_err(fail)?;
    let file = File::create(&path).map_err(fail)?;
    if file.try_lock().is_err() {
        progress.step(&format!("waiting for another `verify` that runs {runs}"));
        file.lock().map_err(fail)?;
    }
    Ok(file)
}
