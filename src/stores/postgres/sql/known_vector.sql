-- A known row, an expression each line: what servers must hash alike before their tables' hashes are compared.
true
'a'::"char"
(-2)::int2
2147483647::int4
(-9223372036854775808)::int8
123456789012345678901234567890.120::numeric
'NaN'::numeric
1.5::float4
'-0'::float8
'Infinity'::float8
'a  '::char(5)
'grüße'::varchar(20)
'日本 and more than thirty-two bytes of text'::text
'name'::name
'\x00ff'::bytea
'2024-02-29'::date
'infinity'::date
'23:59:59.999999'::time
'12:00+05:30'::timetz
'-infinity'::timestamp
'2024-02-29 12:00:00.000001+00'::timestamptz
'1 year 2 months 3 days 04:05:06.7'::interval
'00000000-0000-4000-8000-000000000001'::uuid
'192.168.0.1/24'::inet
'2001:db8::/32'::cidr
'08:00:2b:01:02:03'::macaddr
B'10110'::bit(5)
B'101'::bit varying
'12.34'::money
'(1.5,-2)'::point
'{"a": [1, 2.50, null, "x"], "b": {}}'::jsonb
'{"a" : 1.0}'::json
'a:1A fat:2,4 cat'::tsvector
'fat & !rat'::tsquery
'{1,NULL,3}'::int4[]
'[2:3]={a,b}'::text[]
'[1,10)'::int4range
'(,2024-01-01 00:00:00+00]'::tstzrange
'empty'::numrange
NULL::text
