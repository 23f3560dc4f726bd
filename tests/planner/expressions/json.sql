-- json and jsonb.
'{"a": 1, "b": [1,2,{"c":3}]}'::json -> 'a'
'{"a": 1.0 , "b": [1, 2,{"c":3}]}'::json -> 'b'
'{"a": 1.0, "b": [1,2]}'::json -> 'a'
'{"a":1}'::jsonb -> 'x'
'[1,2,3]'::jsonb -> -1
'[1,2,3]'::json -> 5
'{"a":"x"}'::jsonb ->> 'a'
'{"a":null}'::jsonb ->> 'a'
'{"a":{"b":[10,20]}}'::jsonb #> '{a,b,1}'
'{"a":{"b":[10,20]}}'::jsonb #>> '{a,b,-1}'
'{"a":{"b":[10,20]}}'::json #> '{a}'
'{"a":1}'::jsonb #> '{}'
'{"a":1}'::jsonb @> '{"a":1}'
'{"a":[1,2]}'::jsonb @> '{"a":[2]}'
'[1,[2,3]]'::jsonb @> '[[3]]'
'["foo","bar"]'::jsonb @> '"bar"'
'[[1]]'::jsonb @> '1'
'{"a":1.0}'::jsonb @> '{"a":1}'
'[true]'::jsonb @> '[1]'
'{"a":1}'::jsonb <@ '{"a":1,"b":2}'
'{"a":1}'::jsonb ? 'a'
'["a","b"]'::jsonb ? 'b'
'"a"'::jsonb ? 'a'
'{"a":1}'::jsonb ?| array['x','a']
'{"a":1}'::jsonb ?& array['x','a']
'{"a":1}'::jsonb || '{"b":2}'
'[1]'::jsonb || '2'
'{"a":1}'::jsonb || '[1]'
'1'::jsonb || '2'
'{"a":1,"b":2}'::jsonb - 'a'
'["a","b","a"]'::jsonb - 'a'
'[1,2,3]'::jsonb - 1
'[1,2,3]'::jsonb - -1
'{"a":1}'::jsonb - 1
'1'::jsonb - 'a'
'{"a":1,"b":2}'::jsonb - array['a','b']
'{"a":{"b":1}}'::jsonb #- '{a,b}'
'[1,{"a":2}]'::jsonb #- '{1,a}'
jsonb_set('{"a":[1,2]}','{a,0}','9')
jsonb_set('{"a":[1,2]}','{a,5}','9')
jsonb_set('{"a":[1,2]}','{a,-5}','9')
jsonb_set('{"a":1}','{b}','2')
jsonb_set('{"a":1}','{b}','2',false)
jsonb_set('{"a":1}','{b,c}','2')
jsonb_set('1','{a}','2')
jsonb_set('[1]','{a}','2')
jsonb_insert('{"a":[0,1,2]}','{a,1}','"x"')
jsonb_insert('{"a":[0,1,2]}','{a,1}','"x"',true)
jsonb_insert('{"a":1}','{a}','2')
jsonb_insert('{"a":[0]}','{a,-1}','2')
jsonb_set_lax('{"a":1}','{a}',null)
jsonb_set_lax('{"a":1}','{a}',null,true,'delete_key')
json_build_object('a',1,'b',true,'c',null)
jsonb_build_object('a',1.50,'b',array[1,2])
json_build_object('a')
json_build_array(1,'x',null,1.5)
jsonb_build_array(1,'x',null,1.5,row(1,'a'))
to_json('he"llo'::text)
to_json(1)
to_json(array[1,2])
to_jsonb(1.50)
to_jsonb('x'::text)
to_jsonb(row(1,'a',null::int))
to_json('NaN'::float8)
to_json(1e20::float8)
row_to_json(row(1,'foo'))
row_to_json(row(1,'foo'),true)
array_to_json('{{1,5},{99,100}}'::int[])
array_to_json('{{1,5},{99,100}}'::int[],true)
jsonb_array_length('[1,2,3]')
jsonb_array_length('{"a":1}')
jsonb_array_length('1')
json_array_length('[1]')
jsonb_typeof('[1]')
jsonb_typeof('null')
json_typeof('-123.4')
jsonb_strip_nulls('{"a":null,"b":{"c":null,"d":1},"e":[null]}')
json_strip_nulls('{"a":null, "b":{"c":null,"d":1},"e":[null, 1]}')
jsonb_pretty('{"a":[1,{"b":2}],"c":{}}')
jsonb_pretty('[]')
jsonb_extract_path('{"a":{"b":1}}','a','b')
jsonb_extract_path_text('{"a":{"b":"x"}}','a','b')
json_object('{a,1,b,2}')
json_object('{{a,1},{b,2}}')
json_object('{a,b}','{1,2}')
jsonb_object('{a,b}','{1,null}')
json_object('{a}')
'{"a":1}'::jsonb = '{"a":1.0}'::jsonb
'[1]'::jsonb < '[2]'::jsonb
'{}'::jsonb > '[]'::jsonb
'"a"'::jsonb < '1'::jsonb
'true'::jsonb::bool
'1.5'::jsonb::int
'"x"'::jsonb::int
'2.50'::jsonb::numeric
'{"b":1,"a":2}'::json::jsonb
'{"b":1,"a":2}'::jsonb::json
'{"a":1'::jsonb
'{"a":1}'::jsonb::text
to_json(date '2020-01-02')
to_json(timestamp '2020-01-02 03:04:05.5')
to_json(timestamptz '2020-01-02 03:04:05+00')
to_json('1 day'::interval)
to_json('{"a": 1}'::json)
