//! The report as files.

use super::{Report, html};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Writes `report.json` and `report.html` into `folder`, and says where they are.
pub fn write(report: &Report, folder: &Path) -> io::Result<[PathBuf; 2]> {
    fs::create_dir_all(folder)?;
    let json = folder.join("report.json");
    fs::write(&json, serde_json::to_vec_pretty(report)?)?;
    let page = folder.join("report.html");
    fs::write(&page, html::page(report))?;
    Ok([json, page])
}
