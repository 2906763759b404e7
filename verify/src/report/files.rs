//! The report as files.

use super::{Report, html, junit};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Writes `report.json`, `report.html` and `junit.xml` into `folder`, and says where they are.
pub fn write(report: &Report, folder: &Path) -> io::Result<[PathBuf; 3]> {
    fs::create_dir_all(folder)?;
    let json = folder.join("report.json");
    fs::write(&json, serde_json::to_vec_pretty(report)?)?;
    let page = folder.join("report.html");
    fs::write(&page, html::page(report))?;
    let cases = folder.join("junit.xml");
    fs::write(&cases, junit::xml(report).map_err(io::Error::other)?)?;
    Ok([json, page, cases])
}
