//! Access to NetFPGA cards.
