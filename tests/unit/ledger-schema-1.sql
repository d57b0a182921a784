BEGIN TRANSACTION;
CREATE TABLE boots (
    ordinal INTEGER PRIMARY KEY, boot TEXT NOT NULL UNIQUE, offset_ns INTEGER NOT NULL, clock TEXT NOT NULL);
INSERT INTO "boots" VALUES(1,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',5,'synchronised');
CREATE TABLE counters (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
INSERT INTO "counters" VALUES('overruns_total',1.0);
CREATE TABLE gaps (
    id INTEGER PRIMARY KEY, boot TEXT NOT NULL, previous_boot TEXT, begin_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL, reason TEXT NOT NULL);
INSERT INTO "gaps" VALUES(1,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',NULL,1000,1500,'overrun');
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY, epoch TEXT NOT NULL, at_ns INTEGER NOT NULL, boot TEXT NOT NULL,
    mono_ns INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, hash BLOB NOT NULL);
INSERT INTO "journal" VALUES(1,'3ca56a2a7351',1800000000000000000,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',100000000000,'epoch','{}',X'18E49AC41E3F35CB8ECE0404F047E9CE6DEB3382C46740C61975BF857017037D');
INSERT INTO "journal" VALUES(2,'3ca56a2a7351',1800000000000000000,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',100000000000,'boot','{"clock":"synchronised","of":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","offset_ns":5}',X'C1BD1F27309E91C7A67EC404C6791964A803AADAFA8F2626B8A0B8F748484A0A');
INSERT INTO "journal" VALUES(3,'3ca56a2a7351',1800000000000000000,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',100000000000,'sealed','{"begin_ns":0,"bytes":500,"channels":1,"end_ns":1000,"frames":16000,"of":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","provisional":false,"rate":16000,"run":"0123456789ab","seq":0,"sha256":"0000000000000000000000000000000000000000000000000000000000000000","truncated":false}',X'096B5E808A3D2594759679767742BCD67855F8EF501F368FB71DD6EFDB46B0E9');
INSERT INTO "journal" VALUES(4,'3ca56a2a7351',1800000000000000000,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',100000000000,'gap','{"begin_ns":1000,"end_ns":1500,"of":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","reason":"overrun"}',X'BC7AA4EAB6F25C61D68C2655757DCF7A94D3DDF9DE81992D9EC99CA4C072E988');
INSERT INTO "journal" VALUES(5,'3ca56a2a7351',1800000000000000000,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',100000000000,'sealed','{"begin_ns":1000,"bytes":500,"channels":1,"end_ns":2000,"frames":16000,"of":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","provisional":false,"rate":16000,"run":"0123456789ab","seq":1,"sha256":"0000000000000000000000000000000000000000000000000000000000000001","truncated":false}',X'8A00E561667775742AC6D5C0F750E0ABC2A0D161D14D325D0DB42C01CB56392D');
INSERT INTO "journal" VALUES(6,'3ca56a2a7351',1800000000000000000,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',100000000000,'keyed','{"clock":"synchronised","key":"north/room-1/key","run":"0123456789ab","seq":0}',X'1C6A177E17A3B43E4525CB7FFAB0FB42FA7FC4DF70D268EAF24A14C6DAC7E8C3');
INSERT INTO "journal" VALUES(7,'3ca56a2a7351',1800000000000000000,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',100000000000,'acknowledged','{"how":"stored","run":"0123456789ab","seq":0}',X'B156071CFF0E12EBE9AD68C90C6964D4BDCD65110685880BDE34FD718FA44C94');
CREATE TABLE segments (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, seq INTEGER NOT NULL, boot TEXT NOT NULL,
    begin_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL, frames INTEGER NOT NULL, rate INTEGER NOT NULL,
    channels INTEGER NOT NULL, bytes INTEGER NOT NULL, meta_bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
    truncated INTEGER NOT NULL, provisional INTEGER NOT NULL, state TEXT NOT NULL,
    present INTEGER NOT NULL, key TEXT, key_clock TEXT, settled_ns INTEGER, reason TEXT, UNIQUE (run, seq));
INSERT INTO "segments" VALUES(1,'0123456789ab',0,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',0,1000,16000,16000,1,500,192,'0000000000000000000000000000000000000000000000000000000000000000',0,0,'acknowledged',1,'north/room-1/key','synchronised',100000000005,'stored');
INSERT INTO "segments" VALUES(2,'0123456789ab',1,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',1000,2000,16000,16000,1,500,192,'0000000000000000000000000000000000000000000000000000000000000001',0,0,'pending',1,NULL,NULL,NULL,NULL);
CREATE INDEX segments_kept ON segments (state, id) WHERE present;
COMMIT;
PRAGMA user_version=1;
