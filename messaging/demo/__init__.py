"""The demonstration: every process of the product on one machine, believable data, stand-ins for the vendors."""
