"""Any source of images into sharded records: ``readers`` finds rows, ``shards`` writes them."""
