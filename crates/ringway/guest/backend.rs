//! What front ends ask, carried out: the messages of vhost-user, one method each.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use vhost_user::{Backend, LogExtent, MemoryRegion, Refused, RingEnabling};
use virtio::{DirtyLog, Features, QueueSize};

use super::memory::map;
use super::{Attached, Look};
use crate::refusal::one_line;

impl Backend for Attached<'_> {
    fn device_features(&mut self) -> u64 {
        if matches!(self.guest.look, Look::NotYet) && !self.guest.offers_offloads() {
            self.guest.look = Look::Wanting(Instant::now());
        }
        self.guest.offered().0
    }

    fn served_features(&self) -> u64 {
        self.guest.served().0
    }

    fn queue_pairs_max(&self) -> u16 {
        self.guest.queue_pairs
    }

    fn rings_max(&self) -> u16 {
        // The last may be the control queue, which shows only when features are acknowledged.
        self.guest.rings().end() + 1
    }

    fn set_features(&mut self, features: u64, enabling: RingEnabling) -> Result<(), Refused> {
        let features = Features(features);
        self.guest.look = Look::Content;
        let changed = self.guest.features.0 ^ features.0;
        if changed & !Features::LOG_ALL.0 != 0 {
            self.stop_all();
        }
        self.guest.features = features;
        if changed & !Features::LOG_ALL.0 != 0 {
            // Another driver, or one that begins anew.
            self.forget_orders();
        }
        if changed & Features::LOG_ALL.0 != 0 {
            // Comes and goes while the guest is migrated; rings that run lose nothing by it.
            self.log_all();
        }
        if enabling == RingEnabling::FromTheStart {
            for index in self.guest.rings() {
                self.set_vring_enable(index, true)?;
            }
        }
        self.reconcile_all()
    }

    fn set_memory_table(&mut self, table: Vec<(MemoryRegion, OwnedFd)>) -> Result<(), Refused> {
        let regions = table.into_iter().map(|(region, file)| map(region, file));
        let regions = regions.collect::<Result<_, _>>()?;
        self.set_regions(regions)
    }

    fn add_memory_region(&mut self, region: MemoryRegion, file: OwnedFd) -> Result<(), Refused> {
        // QEMU 7.2 sends the same regions once for each queue pair: the last one counts.
        let mut regions = self.regions_without(region);
        regions.push(map(region, file)?);
        self.set_regions(regions)
    }

    fn remove_memory_region(&mut self, region: MemoryRegion) -> Result<(), Refused> {
        let regions = self.regions_without(region);
        if regions.len() == self.guest.regions.len() {
            // Removed for another queue pair already.
            return Ok(());
        }
        self.set_regions(regions)
    }

    fn set_log_base(&mut self, extent: LogExtent, file: OwnedFd) -> Result<(), Refused> {
        let log = DirtyLog::map(file, extent.mmap_offset, extent.size_bytes)
            .map_err(|error| Refused::new(format!("dirty log: {}", one_line(&error))))?;
        self.guest.log = Some(Arc::new(log));
        self.guest.is_short_log_told = false;
        self.log_all();
        Ok(())
    }

    fn set_vring_size(&mut self, index: u16, size: u32) -> Result<(), Refused> {
        let size = QueueSize::new(size, self.guest.features)
            .map_err(|error| Refused::new(format!("ring {index}: {error}")))?;
        self.change(index, |vring| vring.size = Some(size))
    }

    fn set_vring_addresses(
        &mut self,
        index: u16,
        addresses: vhost_user::VringAddresses,
    ) -> Result<(), Refused> {
        let used_log = addresses.log;
        let addresses = virtio::VringAddresses {
            descriptor_table: addresses.descriptor_table,
            available_ring: addresses.available_ring,
            used_ring: addresses.used_ring,
        };
        let vring = self.vring(index)?;
        let is_there_already = vring.addresses.replace(addresses) == Some(addresses);
        vring.used_log = used_log;
        self.log(index);
        // For migration a live ring gets a log address, and nothing else changes.
        if is_there_already { self.reconcile(index) } else { self.change(index, |_| {}) }
    }

    fn set_vring_base(&mut self, index: u16, base: u32) -> Result<(), Refused> {
        if !self.guest.features.contains(Features::RING_PACKED) && base > u16::MAX.into() {
            return Err(Refused::new(format!("ring {index}: base {base} is above 65535")));
        }
        self.change(index, |vring| vring.base = base)
    }

    fn get_vring_base(&mut self, index: u16) -> Result<u32, Refused> {
        self.vring(index)?;
        self.stop(index);
        let vring = self.vring(index)?;
        // Stopped until the next kick descriptor comes.
        vring.kick = None;
        vring.call = None;
        Ok(vring.base)
    }

    fn set_vring_kick(&mut self, index: u16, kick: Option<OwnedFd>) -> Result<(), Refused> {
        let kick = self.notifier(index, "kick", kick);
        self.change(index, |vring| vring.kick = Some(kick))
    }

    fn set_vring_call(&mut self, index: u16, call: Option<OwnedFd>) -> Result<(), Refused> {
        let call = self.notifier(index, "call", call);
        self.change(index, |vring| vring.call = call)
    }

    fn set_vring_err(&mut self, index: u16, err: Option<OwnedFd>) -> Result<(), Refused> {
        let err = self.notifier(index, "err", err);
        self.vring(index)?.err = err;
        Ok(())
    }

    fn set_vring_enable(&mut self, index: u16, enabled: bool) -> Result<(), Refused> {
        self.vring(index)?.is_enabled = enabled;
        if !self.guest.is_control(index) {
            let passes = self.guest.passes_frames(index);
            self.vring(index)?.passes = passes;
            self.datapath.enable_vring(self.port, index, passes);
        }
        Ok(())
    }

    fn set_status(&mut self, status: u8) -> Result<(), Refused> {
        self.guest.status = status;
        Ok(())
    }

    fn status(&self) -> u8 {
        self.guest.status
    }

    fn config_space(&self) -> Vec<u8> {
        self.guest.config_space()
    }

    fn set_mtu(&mut self, mtu: u16) -> Result<(), Refused> {
        let limit = self.guest.traits.mtu();
        if u32::from(mtu) > limit {
            return Err(Refused::new(format!(
                "the front end wants an MTU of {mtu} (QEMU: host_mtu), the port takes {limit}"
            )));
        }
        self.guest.mtu = Some(mtu);
        Ok(())
    }

    fn send_rarp(&mut self, address: [u8; 6]) {
        self.datapath.announce(self.port, address);
    }

    fn reset_owner(&mut self) {
        self.reset();
    }

    fn reset_device(&mut self) -> Result<(), Refused> {
        self.reset();
        Ok(())
    }
}
