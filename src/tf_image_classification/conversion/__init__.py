"""Any source of images into sharded records: ``convert`` plans them, ``shards`` writes them."""
