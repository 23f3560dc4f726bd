-- Strings, regular expressions, bytea, bit strings, casts, arrays, logic.  One expression a line, compared with PostgreSQL 15.
length('héllo')
octet_length('héllo')
bit_length('abc')
length('ab   '::char(5))
upper('abc')
lower('ABC')
initcap('hello wORLD foo-bar 1st')
substring('hello',2)
substring('hello',2,3)
substring('hello',-1,3)
substring('hello',2,-1)
substr('hello',0)
substring('foobar','o.b')
substring('foobar','o(.)b')
substring('foobar','%#"o_b#"%','#')
strpos('hello','l')
overlay('Txxxxas','hom',2,4)
overlay('abcdef','xy',3)
overlay('abc','x',0)
btrim('  ab  ')
btrim('xyxtrimyyx','xyz')
ltrim('zzzytest','xyz')
rtrim('testxxzx','xyz')
lpad('hi',5,'xy')
lpad('hi',1)
lpad('hi',-1)
lpad('hi',5,'')
rpad('hi',5,'xy')
rpad('hi',7)
left('abcde',2)
left('abcde',-2)
right('abcde',2)
right('abcde',-2)
right('abcde',0)
repeat('ab',3)
repeat('ab',-1)
replace('abcdefabcdef','cd','XX')
translate('12345','143','ax')
reverse('abc')
split_part('abc~@~def~@~ghi','~@~',2)
split_part('abc,def',',',-1)
split_part('abc,def',',',0)
string_to_array('xx~~yy~~zz','~~','yy')
string_to_array('abc',null)
string_to_array('','a')
string_to_array('abc','')
array_to_string(array[1,2,3,null,5],',','*')
array_to_string(array[1,2,null],',')
array_to_string(array[[1,2],[3,4]],',')
concat('a',1,null,true,1.5)
concat(variadic array['a','b'])
concat_ws(',','a',null,2)
concat_ws(null,'a')
format('Hello %s, %1$s',  'World')
format('%I %L %s','a b','it''s',null)
format('%10s|%-10s|','a','b')
format('%2$s %1$s','a','b')
format('%*s','5','a')
format('%s')
format('%z','a')
format('%%')
format('%',1)
quote_ident('Foo bar')
quote_ident('select')
quote_ident('abc_1')
quote_literal(E'a''b\\c')
quote_literal(42.5)
quote_nullable(null)
md5('abc')
sha256('abc'::bytea)
sha224('')
encode('\x1234'::bytea,'hex')
encode('abc'::bytea,'base64')
encode('\x00ff41'::bytea,'escape')
decode('YWJj','base64')
decode('zz','hex')
decode('123','hex')
decode('abc','foo')
ascii('é')
chr(233)
chr(0)
to_hex(255)
to_hex(-1)
to_hex(-1::bigint)
starts_with('alphabet','alph')
regexp_match('foobarbequebaz','(bar)(beque)')
regexp_match('abc','x')
regexp_replace('foobarbaz','b..','X')
regexp_replace('foobarbaz','b..','X','g')
regexp_replace('foobarbaz','b(..)',E'X\\1Y','g')
regexp_replace('A PostgreSQL function','a|e|i|o|u','X',1,0,'i')
regexp_replace('A PostgreSQL function','a|e|i|o|u','X',1,3,'i')
regexp_count('123456789012','\d\d\d',2)
regexp_instr('number of your street, town zip, FR','[^,]+',1,2)
regexp_instr('ABCDEFGHI','(c..)(...)',1,1,0,'i',2)
regexp_substr('number of your street, town zip, FR','[^,]+',1,2)
regexp_substr('ABCDEFGHI','(c..)(...)',1,1,'i',2)
regexp_like('Hello World','world$','i')
regexp_split_to_array('hello world','\s+')
regexp_split_to_array('the quick brown','\s*')
'abc' ~ '^a'
'abc' ~ 'B'
'abc' ~* 'B'
'abc' !~ 'b'
'abc' like 'a%'
'abc' like '_b_'
'abc' not like 'a%'
'ABC' ilike 'a%'
'a%c' like 'a\%c'
'abc' like 'abc\'
'aXbXc' like '%X%X%'
'abc'::char(5) like 'abc  '
'foo' ~ '(?:o){2}'
'foobar' ~ 'o\M'
'foo bar' ~ '\mbar\M'
'abcabc' ~ '(abc)\1'
'abc' ~ 'a(?=b)'
'a.c' ~ '***=a.c'
'abc' ~ '[[:digit:]]'
'abc' ~ '('
'abc' ~ '*a'
'abc' ~ 'a{2,1}'
'abc' ~ '[a'
regexp_match('abcd','a|ab|abc')
regexp_match('xabcabcy','(abc)+?')
regexp_match(E'a\nb','a.b')
regexp_match(E'a\nb','a.b','n')
regexp_match(E'a\nb','^b','n')
regexp_match('aaa','a{1,2}?')
regexp_match('foo.bar','\.')
regexp_match('a b','a b','x')
'ab' ~ 'a b' 
unistr('\0041\+000042\u0043')
unistr('\zzzz')
like_escape('a#%b','#')
similar_to_escape('a_b%(c|d)')
get_byte('\x1234'::bytea,1)
set_byte('\x1234'::bytea,0,255)
get_bit('\x1234'::bytea,3)
'\x12'::bytea||'\x34'::bytea
length('\x1234'::bytea)
substring('\x123456'::bytea,2,1)
B'101' & B'110'
B'101' | B'010'
B'101' # B'111'
~B'101'
B'10001'<<3
B'10001'>>2
B'101'||B'0'
44::bit(10)
44::bit(3)
B'1110'::bit(4)::integer
parse_ident('"SomeSchema".sometable')
parse_ident('a.b.')
format_type(23,null)
format_type(1043,14)
pg_size_pretty(1234567::bigint)
pg_size_pretty(10240::bigint)
pg_size_bytes('1.5 GB')
num_nulls(1,null,2)
num_nonnulls(1,null)
greatest(1,2.5,null)
least('a','b')
greatest(1,'x')
'a'::text < 'B'
'abc'::char(5)='abc'
'abc'::name='abc'
'abc  '::char(5)::text
'abc'::char(5)::varchar(4)
'abcdef'::varchar(3)
'abcdef'::char(3)
'ab'::char(4)||'c'
char_length('ab'::char(4))
'a'::"char"
65::"char"
'x'::"char"::int
true::int
2::bool
'yes'::bool
'maybe'::bool
true::text
1.5::int
2.5::int
-2.5::int
2.5::float8::int
1e10::int
'NaN'::float8::int
'NaN'::numeric::int
123.456::numeric(5,2)
1234.5::numeric(5,2)
0.1::float8::numeric
0.1::float4::numeric
1.0::float4::float8
0.1::float4::float8
1e39::float4
'1e400'::float8
40000::int2
'40000'::int2
-1::oid
'{1,2,3}'::int[]
'{1,x}'::int[]
array[1,2]::text[]
array['1','2']::int[]
array[1.5,2.5]::int[]
'{{1,2},{3,4}}'::int[]
array[[1,2],[3]]
array[]::int[]
array[1,'2']
array[1,2.5]
(array[1,2,3])[2]
(array[1,2,3])[4]
(array[1,2,3])[2:3]
(array[1,2,3])[:2]
(array[[1,2],[3,4]])[2][1]
(array[[1,2],[3,4]])[2]
(array[[1,2],[3,4]])[1:2][2:2]
array_length(array[1,2,3],1)
array_length(array[1,2],2)
array_length('{}'::int[],1)
array_upper(array[1,2],1)
array_lower(array[1,2],1)
array_ndims(array[[1],[2]])
array_dims(array[[1,2],[3,4]])
cardinality(array[[1,2],[3,4]])
cardinality('{}'::int[])
array_position(array['a','b'],'b')
array_position(array[1,null,2],null)
array_positions(array[1,2,1],1)
array_remove(array[1,2,3,2],2)
array_replace(array[1,2,5,4],5,3)
array_append(array[1,2],3)
array_append(null,3)
array_prepend(1,array[2,3])
array_cat(array[1,2],array[3])
array_fill(7,array[3])
array_fill(0,array[2,2])
trim_array(array[1,2,3],2)
array[1,4,3]@>array[3,1]
array[1,2]<@array[1,2,3]
array[1,2]&&array[2,3]
array[1,null]@>array[null]::int[]
array[1,2]=array[1,2]
array[1,2]<array[1,3]
array[1,2]<array[1]
array[1,null]=array[1,null]
array[1,null]<array[1,2]
array[1.0,2]=array[1.00,2]
1=any(array[1,2])
1=any('{2,3}')
1=any(array[2,null])
1<>all(array[2,3])
1=any('{}'::int[])
null=any('{}'::int[])
2 in (1,2)
2 in (1,null)
3 not in (1,2)
3 not in (1,null)
2.0 in (1,2)
1 is distinct from null
null is not distinct from null
1 is null
null is null
true is true
null is unknown
true and null
false and null
true or null
not null::bool
case when 1=2 then 'a' when true then 'b' end
case when false then 1 else 2.5 end
coalesce(null,1,2.5)
coalesce(null,null)
row(1,2)=row(1,2)
row(1,'a')
row(1,null) is null
row(null,null) is null
row(1,2) is not null
row(1,2)<row(1,3)
