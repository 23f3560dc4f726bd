-- Dates, times, intervals; run in two time zones.
date '2020-01-31' + 1
1 + date '2020-01-31'
date '2020-03-01' - 1
date '2020-03-01' - date '2020-02-01'
date '2020-01-31' + interval '1 month'
timestamp '2020-01-31 10:00' + interval '1 month 1 day 2 hours'
timestamp '2020-03-31 10:00' - interval '1 month'
timestamptz '2020-03-29 01:30+00' + interval '1 day'
timestamptz '2020-03-28 12:00' + '1 day'
timestamp '2020-01-02' - timestamp '2020-01-01 12:00'
timestamptz '2020-01-02' - timestamptz '2020-01-01'
date '2020-01-01' + time '10:30'
time '23:30' + interval '1 hour'
time '01:00' - interval '2 hours'
time '10:00' - time '08:30'
timetz '10:00+02' + interval '1 hour'
interval '1 month' + interval '1 day'
interval '1 day' * 1.5
2 * interval '1 month 3 days'
interval '1 month' / 4
interval '1 day' / 0
- interval '1 day 2 hours'
date '2020-01-01' < timestamp '2020-01-01 00:00:01'
date '2020-01-01' = timestamptz '2020-01-01'
timestamp '2020-01-01' = timestamptz '2020-01-01'
date 'infinity' = timestamp 'infinity'
date 'infinity' > timestamp '2020-01-01'
date '5000000-01-01' > timestamp '2020-01-01'
interval '1 month' = interval '30 days'
interval '24 hours' = interval '1 day'
date '2020-01-01'::timestamp
timestamp '2020-01-01 10:11:12'::date
timestamp '2020-01-01 10:11:12'::time
timestamptz '2020-01-01 10:11:12+00'::timestamp
timestamp '2020-06-01 10:11:12'::timestamptz
date '2020-06-01'::timestamptz
interval '25:10:00'::time
time '10:00'::interval
timetz '10:00+03'::time
timestamp '2020-01-01 10:11:12.345678'::timestamp(2)
'2020-01-01 10:11:12.345678'::timestamptz(0)
timezone('America/New_York', timestamptz '2020-01-01 12:00+00')
timezone('America/New_York', timestamp '2020-07-01 12:00')
timezone(interval '3 hours', timestamptz '2020-01-01 12:00+00')
timezone('nowhere', timestamptz '2020-01-01 12:00+00')
make_date(2020,2,29)
make_date(2021,2,29)
make_date(-44,3,15)
make_time(8,15,23.5)
make_time(25,0,0)
make_timestamp(2013,7,15,8,15,23.5)
make_interval(1,2,3,4,5,6,7.5)
make_interval()
age(timestamp '2001-04-10', timestamp '1957-06-13')
age(timestamp '2020-01-01', timestamp '2020-03-31')
justify_hours(interval '27 hours')
justify_days(interval '35 days')
justify_interval(interval '1 mon -1 hour')
isfinite(date 'infinity')
overlaps(date '2001-02-16', date '2001-12-21', date '2001-10-30', date '2002-10-30')
overlaps(timestamp '2001-02-16', null, timestamp '2001-02-16', timestamp '2001-02-17')
'1 day'::interval + '2 days'
'2020-01-01' + interval '1 day'
date '2020-01-01' - '2020-01-02'
now() = now()
timestamp '294276-12-31' + interval '1 year'
date '2020-01-01' + 2147483647
'1'+'2'
-'5'
'2020-01-01'::text::date
timestamp '2020-01-01'::text
timestamptz '2020-01-01 12:00+00'::text
to_json(timestamptz '2020-06-02 03:04:05+00')
'x' || date '2020-01-01'
concat(timestamp '2020-01-01 01:02:03', interval '1 day')
array[date '2020-01-01']::text[]
greatest(date '2020-01-01', timestamp '2020-01-01 01:00')
least(date '2020-01-01', '2019-01-01')
"extract"('year', timestamp '2020-02-03 04:05:06.789')
"extract"('epoch', timestamptz '2020-02-03 04:05:06.789')
"extract"('hour', timestamptz '2020-02-03 04:05:06+00')
"extract"('dow', date '2020-02-03')
"extract"('day', interval '1 mon 2 days')
"extract"('second', time '04:05:06.789')
"extract"('timezone', timetz '04:05:06+03')
"extract"('nonsense', date '2020-02-03')
date_part('year', date '2020-02-03')
date_part('hour', date '2020-02-03')
date_part('epoch', interval '1 year')
date_part('month', timestamp '2020-02-03')
date_trunc('month', timestamp '2020-02-03 04:05:06')
date_trunc('day', timestamptz '2020-02-03 04:05:06+00')
date_trunc('day', timestamptz '2020-02-03 04:05:06+00', 'Asia/Tokyo')
date_trunc('month', date '2020-02-03')
date_trunc('hour', interval '1 day 02:03:04')
date_trunc('fortnight', timestamp '2020-02-03')
date_bin('15 minutes', timestamp '2020-02-11 15:44:17', timestamp '2001-01-01')
