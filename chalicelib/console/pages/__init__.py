"""The console's pages: each a function from a visit to a reply. A page that is got changes nothing."""
