//! Arrow files and streams as the command reads them, some rows at a time: no panic, and rows that add up. Batches that
//! are read whole are left to their library, whose panics the command turns into errors.

#![no_main]

use std::io::Cursor;

use claviger::cli::ArrowRows;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(rows) = ArrowRows::open(Cursor::new(data)) {
        let columns = rows.schema().fields().len();
        for batch in rows.in_part_only().map_while(Result::ok).take(100) {
            assert!(batch.num_rows() <= 8192 && batch.num_columns() == columns);
        }
    }
});
