-- The alarms of Page's CUSUM were called page-hinkley, which is another test. The detector is a part of an
-- event's key: the drift monitor finds the alarms it raised before a restart by it.

UPDATE event
SET key = replace(key, '/page-hinkley/', '/cusum/'), body = json_set(body, '$.detector', 'cusum')
WHERE json_extract(body, '$.detector') = 'page-hinkley';
