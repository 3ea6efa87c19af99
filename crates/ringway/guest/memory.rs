//! A guest's memory: its regions, and the files that they came in.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vhost_user::{MemoryRegion, Refused};
use virtio::{GuestRegion, MemoryMap};

use crate::refusal::one_line;

/// A guest's memory, mapped, with its file for another process to map.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    pub(super) region: Arc<GuestRegion>,
    pub(super) file: Arc<OwnedFd>,
}

/// The regions as rings see them.
pub(super) fn memory_map(regions: &[(MemoryRegion, Mapping)]) -> Result<Arc<MemoryMap>, Refused> {
    let mapped = regions.iter().map(|(_, mapping)| Arc::clone(&mapping.region)).collect();
    let map = MemoryMap::new(mapped).map_err(|error| Refused::new(error.to_string()))?;
    Ok(Arc::new(map))
}

/// Maps a region that a front end sent.
pub(super) fn map(region: MemoryRegion, file: OwnedFd) -> Result<(MemoryRegion, Mapping), Refused> {
    let MemoryRegion { guest_address, size_bytes, user_address, mmap_offset } = region;
    let refused = |error: &dyn std::error::Error| Refused::new(one_line(error));
    let kept = Arc::new(file.try_clone().map_err(|error| refused(&error))?);
    GuestRegion::map(file, guest_address, size_bytes, user_address, mmap_offset)
        .map(|mapped| (region, Mapping { region: mapped, file: kept }))
        .map_err(|error| Refused::new(error.to_string()))
}
