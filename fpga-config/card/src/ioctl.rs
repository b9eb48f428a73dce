//! A card through its driver: nf2.ko on the 1G (an interface such as nf2c0), the drivers of the
//! later boards by the numbers in their board file.
//!
//! A read by the driver never fails: for an address outside of the card it returns a stale value.
//! So the address is checked before.

use crate::Card;
use crate::sys;
use std::fs::{File, OpenOptions};
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::Arc;
use tandem_fpga_config::profile::{Argument, Ioctl};
use tandem_fpga_config::registers::{Access, AccessError, Registers, check};

/// A card behind a driver.
#[derive(Debug)]
pub struct IoctlCard {
    device: String,
    numbers: Ioctl,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// Any socket of the interface's network namespace.
    Interface(UdpSocket),
    Device(File),
}

impl IoctlCard {
    /// Opens the card behind an interface or a device file.
    ///
    /// When the interface or file does not exist, or may not be opened.
    pub fn open(device: &str, numbers: &Ioctl) -> std::io::Result<IoctlCard> {
        let way = match numbers.argument {
            Argument::Ifreq => {
                if !std::path::Path::new("/sys/class/net").join(device).exists() {
                    let why = format!(
                        "there is no interface {device}; is the driver loaded (lsmod)? Without it: --card mmap:PCI"
                    );
                    return Err(std::io::Error::new(std::io::ErrorKind::NotFound, why));
                }
                Way::Interface(
                    UdpSocket::bind(("127.0.0.1", 0)).or_else(|_| UdpSocket::bind(("0.0.0.0", 0)))?,
                )
            }
            Argument::U64 => Way::Device(OpenOptions::new().read(true).write(true).open(device)?),
        };
        Ok(IoctlCard { device: device.to_owned(), numbers: numbers.clone(), way })
    }
}

fn failed(access: Access) -> impl FnOnce(std::io::Error) -> AccessError {
    move |error| AccessError::Failed { access, source: Arc::new(error) }
}

impl Registers for IoctlCard {
    fn read32(&mut self, address: u32) -> Result<u32, AccessError> {
        let access = Access::Read(address);
        check(access)?;
        match &self.way {
            Way::Interface(socket) => {
                sys::interface_ioctl(socket.as_fd(), &self.device, self.numbers.read, address, 0)
            }
            Way::Device(file) => sys::device_read(file.as_fd(), self.numbers.read, address),
        }
        .map_err(failed(access))
    }

    fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError> {
        let access = Access::Write(address, value);
        check(access)?;
        match &self.way {
            Way::Interface(socket) => {
                sys::interface_ioctl(socket.as_fd(), &self.device, self.numbers.write, address, value)
                    .map(drop)
            }
            Way::Device(file) => sys::device_write(file.as_fd(), self.numbers.write, address, value),
        }
        .map_err(failed(access))
    }
}

impl Card for IoctlCard {}
