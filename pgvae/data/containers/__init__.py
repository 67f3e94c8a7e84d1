"""Files that hold many images: tar, Parquet and Arrow, HDF5, TFRecord, LMDB. None is extracted."""
