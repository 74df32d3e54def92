"""The other gateways, as someone who knows them would write them."""
