-- inet, cidr and hashes.
inet '192.168.1.5' << inet '192.168.1/24'
inet '192.168.1/24' <<= inet '192.168.1/24'
inet '192.168.1/24' >> inet '192.168.1.5'
inet '192.168.1/24' && inet '192.168.1.80/28'
host('192.168.1.5/24')
network('192.168.1.5/24'::inet)
netmask('192.168.1.5/24')
hostmask('192.168.23.20/30')
broadcast('192.168.1.5/24')
family('::1')
masklen('192.168.1.5/24')
set_masklen('192.168.1.5/24'::inet, 16)
set_masklen('192.168.1.0/24'::cidr, 16)
abbrev('10.1.0.0/16'::cidr)
abbrev('10.1.0.0/16'::inet)
inet_same_family('192.168.1.5/24', '::1')
inet_merge('192.168.1.5/24', '192.168.2.5/24')
inet '192.168.1.6' + 25
200 + inet '192.168.1.6'
inet '192.168.1.43' - 36
inet '192.168.1.43' - inet '192.168.1.19'
~ inet '192.168.1.6'
inet '192.168.1.6' & inet '0.0.0.255'
inet '192.168.1.6' | inet '0.0.0.255'
inet '255.255.255.255' + 1
inet '192.168.1.5' < inet '192.168.1.6'
inet '10.0.0.1'::text
cidr '10.0.0.0/8'::text
'10.1.2.3/8'::inet::cidr
hashtext('')
hashtext('abc')
hashtext('hello world, this is a longer text')
hashint4(42)
hashint4(-1)
hashint8(42)
hashint8(-5000000000)
