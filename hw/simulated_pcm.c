/*
 * A simulated room with a microphone: an alsa-lib capture PCM without hardware.
 *
 * The room plays a file of S16_LE frames, frame after frame, by CLOCK_MONOTONIC. A reader that comes late, stops or is
 * too slow misses what was played meanwhile, as in a real room. A script makes things go wrong at exact frames; a
 * journal says what really happened, so that a test knows the truth. hw/simulated.py describes script and journal.
 *
 * How it works
 *   position   Frames the room has played since its clock began (at the first start, or the first refused open). It goes
 *              on while nobody listens, across close, crash and reopen: the clock lies in the shared file `state`.
 *   DMA        On every look at the device, the frames played since the last look are copied into a ring, as a sound
 *              card would have done by itself, in packets of 1 ms as over USB. Frame n of a stream sits in slot n %
 *              buffer_size.
 *   events     The copy stops at the frame of each scripted event, applies it and goes on, so events are frame-exact
 *              however rarely anybody looks. What ends a stream (overrun, unplug…) shows once the reader has drained
 *              what was played before it: everything before frame N is heard, nothing after.
 *   poll       A timerfd set to the moment at which enough frames will be there; never read, only set again, so it is
 *              readable exactly while the device is ready. An inotify descriptor wakes the reader for new script lines.
 *   speed 0    The room waits: it plays as fast as it is read, one period ahead of the reader. While the microphone is
 *              gone or frozen there is nothing to read, so then the room's clock runs at real pace.
 *
 * The source is read with pread, not mapped: mapped pages would count as memory of the process under test.
 */
#define _FILE_OFFSET_BITS 64
#define _GNU_SOURCE
#include <alsa/asoundlib.h>
#include <alsa/pcm_external.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NEVER UINT64_MAX
#define MAX_LINES 65536u
#define MAX_LIST 16
#define STATE_MAGIC 0x6d6f6f72u /* "room" */
#define SHORT_READ_PAUSE_NS 50000000
#define SCRIPT_PAUSE_NS 10000000

/* The room's clock and fate, shared by everybody who ever opens it. hw/simulated.py reads the first fields: keep their
 * order. Only the holder of the file's lock writes. `sequence` is odd while the clock's fields change. */
struct room {
    uint32_t magic;
    uint32_t sequence;
    uint32_t started;
    uint32_t gone;
    uint32_t frozen;
    uint32_t restless; /* frozen, yet poll says that there is something to read */
    int64_t base_ns;      /* CLOCK_MONOTONIC at which ... */
    double base_frame;    /* ... this frame was reached ... */
    double base_time;     /* ... at this time of the room (ns since its clock began) */
    double speed;         /* room time per real time; 0 = the room waits for its reader */
    double frames_per_ns; /* of room time, crystal drift included */
    double latest_time;   /* where a patient room's clock stops until its reader has taken something */
    double drift_ppm;
    uint64_t frontier;    /* every event up to this frame has been applied */
    uint64_t returns_at;
    uint64_t thaws_at;
    uint64_t zeros_until;
    uint64_t resumes_at;  /* where a scripted loss ends: the next stream begins exactly here */
    uint64_t heard_end;   /* the frame after the last one a reader got */
    uint8_t done[MAX_LINES / 8];
};

enum what { OVERRUN, SUSPEND, BROKEN, UNPLUG, REPLUG, FREEZE, RESTLESS, THAW, ZEROS, SOUND, DRIFT, SHORT, WHATS };

static const struct {
    const char *name;
    int least, most; /* arguments */
} vocabulary[WHATS] = {
    [OVERRUN] = {"overrun", 1, 1}, [SUSPEND] = {"suspend", 1, 1}, [BROKEN] = {"broken", 0, 0},
    [UNPLUG] = {"unplug", 0, 1},   [REPLUG] = {"replug", 0, 0},   [FREEZE] = {"freeze", 0, 1},
    [RESTLESS] = {"restless", 0, 1}, [THAW] = {"thaw", 0, 0},     [ZEROS] = {"zeros", 0, 1},
    [SOUND] = {"sound", 0, 0},     [DRIFT] = {"drift", 1, 1},     [SHORT] = {"short", 2, 2},
};

struct event {
    uint64_t at; /* NEVER with `now` */
    bool now;
    enum what what;
    double args[2]; /* missing ones are 0 */
    unsigned int line;
};

/* Why the stream takes no more frames. Everything but FULL shows only when the reader has drained the ring. */
enum ending { NONE, FULL, OVERRAN, SUSPENDED, FAILED, VANISHED };

enum at_end { END_LOOP, END_SILENCE, END_STALL, END_UNPLUG };

struct microphone {
    snd_pcm_ioplug_t io;
    struct room *room;
    int state_fd, source_fd, script_fd, journal_fd, timer_fd, watch_fd;

    off_t source_offset;
    uint64_t source_frames;
    unsigned int source_channels;
    enum at_end at_end;
    double speed, drift_ppm;
    bool patient;

    struct event *events; /* those of the script not yet applied */
    size_t event_count, event_room;
    unsigned int line_count;
    off_t script_read;
    int64_t script_read_ns;

    unsigned char *ring;
    size_t frame_bytes;
    snd_pcm_uframes_t avail_min, boundary;
    bool running, dead; /* dead: was unplugged while open, so only opening it again helps */
    enum ending ending;
    uint64_t taking;   /* frames being handed out, which alsa-lib hasn't yet counted as read */
    uint64_t dma;      /* the next frame of the room to copy */
    uint64_t hw;       /* frames copied since the stream was prepared */
    uint64_t jump_hw;  /* a thaw skipped jump_frames of the room after this many frames of the stream */
    uint64_t jump_frames;
    uint64_t short_frames, short_left, granted;
    int64_t granted_ns;
    int64_t armed_ns;
};

static int64_t monotonic_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

__attribute__((format(printf, 2, 3))) static void note(const struct microphone *mic, const char *format, ...)
{
    char line[256];
    int length = snprintf(line, sizeof line, "%" PRId64 " ", monotonic_ns());
    va_list arguments;
    va_start(arguments, format);
    length += vsnprintf(line + length, sizeof line - (size_t)length - 1, format, arguments);
    va_end(arguments);
    line[length] = '\n';
    if (write(mic->journal_fd, line, (size_t)length + 1) < 0)
        SNDERR("can't write the room's journal: %s", strerror(errno));
}

/* --- the room's clock ------------------------------------------------------------------------------------------- */

static void clock_changes(struct room *room)
{
    __atomic_add_fetch(&room->sequence, 1, __ATOMIC_ACQ_REL);
}

/* Frames played by now. */
static uint64_t played(const struct room *room, int64_t now)
{
    double frame = room->base_frame + (double)(now - room->base_ns) * room->speed * room->frames_per_ns;
    return frame > 0 ? (uint64_t)frame : 0;
}

/* Moves the clock's base to the moment at which `frame` is reached; a room that waits reaches it now. */
static void rebase(struct room *room, uint64_t frame, int64_t now)
{
    double passed = ((double)frame - room->base_frame) / room->frames_per_ns;
    room->base_time += passed;
    room->base_ns = room->speed > 0 ? room->base_ns + (int64_t)floor(passed / room->speed) : now;
    room->base_frame = (double)frame;
}

/* Up to which frame the clock may run before anybody looks at the device again. */
static void let_run(struct room *room, uint64_t frame)
{
    double latest = frame == NEVER ? INFINITY : room->base_time + ((double)frame - room->base_frame) / room->frames_per_ns;
    if (latest == room->latest_time)
        return;
    clock_changes(room);
    room->latest_time = latest;
    clock_changes(room);
}

/* The pace from `frame` on, after drift, rate or the presence of something to read changed. */
static void set_pace(struct microphone *mic, uint64_t frame, int64_t now)
{
    struct room *room = mic->room;
    unsigned int rate = mic->io.rate ? mic->io.rate : 16000;
    clock_changes(room);
    if (room->started)
        rebase(room, frame, now);
    room->frames_per_ns = rate * (1 + room->drift_ppm / 1e6) / 1e9;
    if (mic->speed > 0)
        room->speed = mic->speed;
    else
        room->speed = room->gone || room->frozen ? 1 : 0;
    if (mic->speed <= 0)
        room->base_ns = now;
    clock_changes(room);
}

static void begin_clock(struct microphone *mic, int64_t now)
{
    struct room *room = mic->room;
    if (room->started)
        return;
    room->base_ns = now;
    room->started = 1;
    set_pace(mic, 0, now);
}

/* --- the script ------------------------------------------------------------------------------------------------- */

static int parse_event(char *text, struct event *event)
{
    char *words[6];
    int count = 0;
    for (char *save = NULL, *word = strtok_r(text, " \t\r", &save); word && count < 6; word = strtok_r(NULL, " \t\r", &save))
        words[count++] = word;
    if (count == 0 || words[0][0] == '#')
        return 0;
    int at = 0;
    char *end = "";
    if (strcmp(words[0], "now") == 0) {
        event->now = true;
        event->at = NEVER;
        at = 1;
    } else if (strcmp(words[0], "at") == 0 && count > 1) {
        event->at = strtoull(words[1], &end, 10);
        at = 2;
    }
    if (at == 0 || *end || at >= count)
        return -EINVAL;
    int arguments = count - at - 1;
    for (event->what = 0; event->what < WHATS; event->what++)
        if (strcmp(vocabulary[event->what].name, words[at]) == 0)
            break;
    if (event->what == WHATS || arguments < vocabulary[event->what].least || arguments > vocabulary[event->what].most)
        return -EINVAL;
    for (int i = 0; i < arguments; i++) {
        event->args[i] = strtod(words[at + 1 + i], &end);
        if (*end)
            return -EINVAL;
    }
    return 1;
}

static int take_line(struct microphone *mic, char *text)
{
    unsigned int line = mic->line_count++;
    if (line >= MAX_LINES) {
        SNDERR("the room's script has more than %u lines", MAX_LINES);
        return -E2BIG;
    }
    struct event event = {.line = line};
    int kind = parse_event(text, &event);
    if (kind < 0) {
        SNDERR("line %u of the room's script makes no sense", line + 1);
        return kind;
    }
    if (kind == 0 || mic->room->done[line / 8] & 1 << line % 8)
        return 0;
    if (mic->event_count == mic->event_room) {
        size_t more = mic->event_room ? 2 * mic->event_room : 16;
        struct event *events = realloc(mic->events, more * sizeof *events);
        if (!events)
            return -ENOMEM;
        mic->events = events;
        mic->event_room = more;
    }
    mic->events[mic->event_count++] = event;
    return 0;
}

/* Takes in the whole lines that were appended since the last time. */
static int read_script(struct microphone *mic)
{
    struct stat stat;
    mic->script_read_ns = monotonic_ns();
    if (fstat(mic->script_fd, &stat) < 0)
        return -errno;
    if (stat.st_size <= mic->script_read)
        return 0;
    size_t size = (size_t)(stat.st_size - mic->script_read);
    char *text = malloc(size + 1);
    if (!text)
        return -ENOMEM;
    ssize_t got = pread(mic->script_fd, text, size, mic->script_read);
    int error = got < 0 ? -errno : 0;
    char *line = text;
    text[got > 0 ? got : 0] = 0;
    for (char *end; !error && (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        error = take_line(mic, line);
    }
    mic->script_read += line - text;
    free(text);
    return error;
}

/* The pending event that comes first, among them the room's own; its index, or -1. `*at` is its frame. */
static ssize_t next_event(const struct microphone *mic, uint64_t here, struct event *event)
{
    const struct room *room = mic->room;
    ssize_t first = -1;
    event->at = NEVER;
    for (size_t i = 0; i < mic->event_count; i++) {
        struct event candidate = mic->events[i];
        if (candidate.now)
            candidate.at = here;
        if (candidate.at < event->at) {
            *event = candidate;
            first = (ssize_t)i;
        }
    }
    struct event own[] = {
        {.at = room->gone ? room->returns_at : NEVER, .what = REPLUG},
        {.at = room->frozen ? room->thaws_at : NEVER, .what = THAW},
        {.at = mic->at_end == END_STALL && !room->frozen ? mic->source_frames : NEVER, .what = FREEZE},
        {.at = mic->at_end == END_UNPLUG && !room->gone ? mic->source_frames : NEVER, .what = UNPLUG},
    };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i].at < event->at) {
            *event = own[i];
            first = -1;
        }
    if (event->at != NEVER && event->at < room->frontier)
        event->at = room->frontier;
    return first;
}

/* --- the ring --------------------------------------------------------------------------------------------------- */

/* Frames copied and not yet read. */
static uint64_t unread(const struct microphone *mic)
{
    if (!mic->boundary)
        return 0;
    uint64_t hw = mic->hw % mic->boundary, appl = mic->io.appl_ptr;
    return (hw >= appl ? hw - appl : hw + mic->boundary - appl) - mic->taking;
}

/* `count` frames of the source from room frame `from`, in the card's format and channels. */
static void fetch(const struct microphone *mic, unsigned char *to, uint64_t from, uint64_t count)
{
    const bool plain = mic->source_channels == mic->io.channels && mic->io.format == SND_PCM_FORMAT_S16_LE;
    const size_t source_bytes = 2 * mic->source_channels;
    while (count > 0) {
        uint64_t at = mic->at_end == END_LOOP ? from % mic->source_frames : from;
        uint64_t some = at < mic->source_frames ? mic->source_frames - at : count;
        int16_t frames[4096];
        if (some > count)
            some = count;
        if (!plain && some > sizeof frames / source_bytes)
            some = sizeof frames / source_bytes;
        unsigned char *into = plain ? to : (unsigned char *)frames;
        size_t wanted = some * source_bytes, have = 0;
        while (at < mic->source_frames && have < wanted) {
            ssize_t got = pread(mic->source_fd, into + have, wanted - have,
                                mic->source_offset + (off_t)(at * source_bytes + have));
            if (got <= 0)
                break;
            have += (size_t)got;
        }
        memset(into + have, 0, wanted - have);
        if (!plain)
            for (uint64_t i = 0; i < some; i++)
                for (unsigned int c = 0; c < mic->io.channels; c++) {
                    int16_t sample = frames[i * mic->source_channels + c % mic->source_channels];
                    int32_t wide = (int32_t)((uint32_t)sample << 16);
                    unsigned char *slot = to + i * mic->frame_bytes + c * (mic->frame_bytes / mic->io.channels);
                    if (mic->io.format == SND_PCM_FORMAT_S16_LE)
                        memcpy(slot, &sample, sizeof sample);
                    else
                        memcpy(slot, &wide, sizeof wide);
                }
        to += some * mic->frame_bytes;
        from += some;
        count -= some;
    }
}

/* Whether frames go into the ring. */
static bool hearing(const struct microphone *mic)
{
    return mic->running && mic->ending == NONE && !mic->room->frozen;
}

/* Copies what the room played up to frame `to` into the ring, as far as the stream takes it. */
static void copy_up_to(struct microphone *mic, uint64_t to)
{
    const struct room *room = mic->room;
    if (!hearing(mic) || to <= mic->dma)
        return;
    uint64_t free_frames = mic->io.buffer_size - unread(mic), count = to - mic->dma;
    const bool full = count >= free_frames;
    if (full)
        count = free_frames;
    while (count > 0) {
        uint64_t slot = mic->hw % mic->io.buffer_size, some = mic->io.buffer_size - slot;
        if (some > count)
            some = count;
        unsigned char *into = mic->ring + slot * mic->frame_bytes;
        if (mic->dma < room->zeros_until) {
            if (some > room->zeros_until - mic->dma)
                some = room->zeros_until - mic->dma;
            memset(into, 0, some * mic->frame_bytes);
        } else
            fetch(mic, into, mic->dma, some);
        mic->dma += some;
        mic->hw += some;
        count -= some;
    }
    if (full) {
        mic->ending = FULL;
        note(mic, "overrun position=%" PRIu64 " unread=%lu", mic->dma, mic->io.buffer_size);
    }
}

/* --- what happens ----------------------------------------------------------------------------------------------- */

static void end_stream(struct microphone *mic, enum ending ending)
{
    if (mic->ending == NONE)
        mic->ending = ending;
}

static void apply(struct microphone *mic, const struct event *event, int64_t now)
{
    struct room *room = mic->room;
    const uint64_t at = event->at, length = event->args[0] > 0 ? (uint64_t)event->args[0] : 0;
    const uint64_t until = length ? at + length : NEVER;
    const char *name = vocabulary[event->what].name;
    const bool streaming = mic->running && mic->ending == NONE;

    switch (event->what) {
    case OVERRUN:
    case SUSPEND:
    case BROKEN:
        if (!streaming) {
            note(mic, "missed position=%" PRIu64 " event=%s", at, name);
            break;
        }
        end_stream(mic, event->what == OVERRUN ? OVERRAN : event->what == SUSPEND ? SUSPENDED : FAILED);
        if (event->what != BROKEN)
            room->resumes_at = at + length;
        note(mic, "%s position=%" PRIu64 " skips=%" PRIu64, name, at, length);
        break;
    case UNPLUG:
        room->gone = 1;
        room->returns_at = until;
        mic->dead = true;
        end_stream(mic, VANISHED);
        note(mic, "gone position=%" PRIu64, at);
        set_pace(mic, at, now);
        break;
    case REPLUG:
        if (!room->gone)
            break;
        room->gone = 0;
        note(mic, "returned position=%" PRIu64, at);
        set_pace(mic, at, now);
        break;
    case FREEZE:
    case RESTLESS:
        room->frozen = 1;
        room->restless = event->what == RESTLESS;
        room->thaws_at = until;
        note(mic, "freeze position=%" PRIu64, at);
        set_pace(mic, at, now);
        break;
    case THAW:
        if (!room->frozen)
            break;
        room->frozen = room->restless = 0;
        if (streaming && at > mic->dma) {
            note(mic, "thaw position=%" PRIu64 " lost=%" PRIu64, at, at - mic->dma);
            mic->jump_hw = mic->hw;
            mic->jump_frames = at - mic->dma;
            mic->dma = at;
        } else
            note(mic, "thaw position=%" PRIu64, at);
        set_pace(mic, at, now);
        break;
    case ZEROS:
        room->zeros_until = until;
        note(mic, "zeros position=%" PRIu64, at);
        break;
    case SOUND:
        room->zeros_until = at;
        note(mic, "sound position=%" PRIu64, at);
        break;
    case DRIFT:
        room->drift_ppm = event->args[0];
        note(mic, "drift position=%" PRIu64 " ppm=%g", at, room->drift_ppm);
        set_pace(mic, at, now);
        break;
    case SHORT:
        mic->short_frames = length ? length : 1;
        mic->short_left = (uint64_t)event->args[1];
        mic->granted = mic->hw;
        mic->granted_ns = now;
        note(mic, "short position=%" PRIu64 " frames=%" PRIu64 " times=%" PRIu64, at, mic->short_frames,
             mic->short_left);
        break;
    case WHATS:
        break;
    }
}

static uint64_t packet(const struct microphone *mic)
{
    return mic->io.rate >= 1000 ? mic->io.rate / 1000 : 1;
}

/* How far the room has played, or, when it waits for its reader, may play now. */
static uint64_t reach(struct microphone *mic, int64_t now)
{
    struct room *room = mic->room;
    const uint64_t ahead = unread(mic);
    if (room->speed > 0) {
        uint64_t frame = played(room, now);
        uint64_t most = NEVER;
        if (hearing(mic)) {
            frame -= frame % packet(mic);
            most = mic->dma + mic->io.buffer_size - ahead - 1;
        } else if (room->resumes_at && !room->gone && !room->frozen)
            most = room->resumes_at - 1; /* what is scripted after a loss waits for the stream to go on */
        if (mic->patient)
            let_run(room, most);
        if (mic->patient && frame > most) {
            clock_changes(room);
            rebase(room, most, now);
            room->base_ns = now;
            clock_changes(room);
            frame = most;
        }
        return frame;
    }
    if (!hearing(mic))
        return (uint64_t)room->base_frame;
    uint64_t kept = mic->avail_min > mic->io.period_size ? mic->avail_min : mic->io.period_size;
    if (kept >= mic->io.buffer_size)
        kept = mic->io.buffer_size - 1;
    return mic->dma + (ahead < kept ? kept - ahead : 0);
}

/* Brings the device up to date: everything the room played and everything that happened until now. */
static void look(struct microphone *mic)
{
    struct room *room = mic->room;
    /* Polling readers hear of new lines by inotify; this is for those who only read. */
    if (monotonic_ns() - mic->script_read_ns > SCRIPT_PAUSE_NS && read_script(mic) < 0)
        end_stream(mic, FAILED);
    if (!room->started)
        return;
    for (;;) {
        const int64_t now = monotonic_ns();
        const uint64_t limit = reach(mic, now);
        const uint64_t here = room->speed > 0 || !hearing(mic) ? limit : mic->dma;
        struct event event;
        ssize_t index = next_event(mic, here, &event);
        const bool due = event.at <= limit;
        const uint64_t to = due ? event.at : limit;
        copy_up_to(mic, to);
        if (room->speed <= 0 && (double)to > room->base_frame) {
            clock_changes(room);
            rebase(room, to, now);
            clock_changes(room);
        }
        if (to > room->frontier)
            room->frontier = to;
        if (!due)
            return;
        if (index >= 0) {
            room->done[event.line / 8] |= (uint8_t)(1 << event.line % 8);
            mic->events[index] = mic->events[--mic->event_count];
        }
        apply(mic, &event, now);
    }
}

/* Frames the reader may take now: all that are unread, or the few of a scripted short read. */
static uint64_t offered(struct microphone *mic, bool polled)
{
    const uint64_t ahead = unread(mic);
    if (!mic->short_frames)
        return ahead;
    const uint64_t kept_back = mic->hw - mic->granted;
    const int64_t now = monotonic_ns();
    /* Readers that never poll get the next few after a pause, so that one read call can't gather several. */
    const bool next = polled || now - mic->granted_ns > SHORT_READ_PAUSE_NS;
    if (ahead > kept_back || !next)
        return ahead - kept_back;
    if (mic->short_left == 0) {
        mic->short_frames = 0;
        return ahead;
    }
    if (kept_back < mic->short_frames && (kept_back == 0 || mic->ending == NONE))
        return 0;
    const uint64_t some = kept_back < mic->short_frames ? kept_back : mic->short_frames;
    mic->short_left--;
    mic->granted += some;
    mic->granted_ns = now;
    return some;
}

/* Tells alsa-lib that the stream has ended, once the reader has everything played before. */
static void show_ending(struct microphone *mic)
{
    if (mic->ending == NONE || (mic->ending != FULL && unread(mic) > 0))
        return;
    if (mic->ending == VANISHED)
        snd_pcm_ioplug_set_state(&mic->io, SND_PCM_STATE_DISCONNECTED);
    else if (mic->ending == SUSPENDED)
        snd_pcm_ioplug_set_state(&mic->io, SND_PCM_STATE_SUSPENDED);
    else if (mic->ending != FAILED)
        snd_pcm_ioplug_set_state(&mic->io, SND_PCM_STATE_XRUN);
}

static bool ready(struct microphone *mic, bool polled)
{
    if (mic->ending != NONE || (mic->running && mic->room->restless))
        return true;
    /* Of a frozen stream the reader gets the last frames too, although they never grow to be a period. */
    const uint64_t offer = offered(mic, polled);
    const bool any = mic->short_frames || mic->room->frozen;
    return mic->running && offer >= (any ? 1 : mic->avail_min);
}

/* Sets the timer to the moment at which the reader has something to do. */
static void arm(struct microphone *mic)
{
    const struct room *room = mic->room;
    int64_t when = 0; /* disarmed */
    if (ready(mic, false)) {
        if (mic->armed_ns > 0 && mic->armed_ns <= monotonic_ns())
            return; /* has expired and stays readable */
        when = 1;
    } else if (room->started) {
        struct event event;
        next_event(mic, NEVER, &event);
        uint64_t frame = event.at;
        if (mic->running && !room->frozen) {
            uint64_t ahead = unread(mic), need = mic->short_left ? mic->short_frames : mic->avail_min;
            uint64_t enough = mic->dma + (ahead < need ? need - ahead : 0);
            enough += packet(mic) - 1;
            enough -= enough % packet(mic);
            if (enough < frame)
                frame = enough;
        }
        if (room->speed > 0 && frame != NEVER) {
            double left = ((double)frame - room->base_frame) / (room->speed * room->frames_per_ns);
            if (left < 1e18)
                when = room->base_ns + (int64_t)ceil(left) + 1;
        } else if (room->speed <= 0 && mic->running)
            when = 1;
    }
    if (when == mic->armed_ns)
        return;
    mic->armed_ns = when;
    struct itimerspec timer = {.it_value = {.tv_sec = when / 1000000000, .tv_nsec = when % 1000000000}};
    timerfd_settime(mic->timer_fd, TFD_TIMER_ABSTIME, &timer, NULL);
}

/* --- alsa-lib's callbacks --------------------------------------------------------------------------------------- */

static int on_hw_params(snd_pcm_ioplug_t *io, snd_pcm_hw_params_t *params)
{
    struct microphone *mic = io->private_data;
    (void)params;
    mic->frame_bytes = io->channels * (size_t)snd_pcm_format_physical_width(io->format) / 8;
    free(mic->ring);
    mic->ring = malloc(io->buffer_size * mic->frame_bytes);
    return mic->ring ? 0 : -ENOMEM;
}

static int on_sw_params(snd_pcm_ioplug_t *io, snd_pcm_sw_params_t *params)
{
    struct microphone *mic = io->private_data;
    snd_pcm_sw_params_get_avail_min(params, &mic->avail_min);
    snd_pcm_sw_params_get_boundary(params, &mic->boundary);
    arm(mic);
    return 0;
}

static int on_prepare(snd_pcm_ioplug_t *io)
{
    struct microphone *mic = io->private_data;
    mic->running = false;
    mic->hw = mic->jump_hw = mic->granted = 0;
    if (mic->ending == FAILED)
        return -EIO;
    mic->ending = NONE;
    look(mic);
    arm(mic);
    return mic->dead ? -ENODEV : 0;
}

/* Where a stream that starts now begins to hear. */
static uint64_t first_frame(struct microphone *mic, int64_t now)
{
    struct room *room = mic->room;
    uint64_t frame = room->speed > 0 ? played(room, now) : (uint64_t)room->base_frame;
    /* A scripted loss has exactly the length it says, even if the reader was a little late to start again. */
    const bool exact = room->resumes_at && (frame < room->resumes_at || frame - room->resumes_at < mic->io.buffer_size / 2);
    if (exact)
        frame = room->resumes_at;
    room->resumes_at = 0;
    if (exact && room->speed <= 0) {
        clock_changes(room);
        rebase(room, frame, now);
        clock_changes(room);
    }
    return frame;
}

static int on_start(snd_pcm_ioplug_t *io)
{
    struct microphone *mic = io->private_data;
    struct room *room = mic->room;
    const bool first = !room->started;
    begin_clock(mic, monotonic_ns());
    mic->script_read_ns = 0;
    look(mic);
    if (mic->dead || mic->ending != NONE)
        return mic->dead ? -ENODEV : -EIO;
    const int64_t now = monotonic_ns();
    set_pace(mic, room->speed > 0 ? played(room, now) : (uint64_t)room->base_frame, now);
    mic->dma = first ? 0 : first_frame(mic, now);
    mic->running = true;
    note(mic, "start position=%" PRIu64 " lost=%" PRIu64 " rate=%u channels=%u period=%lu buffer=%lu", mic->dma,
         mic->dma > room->heard_end ? mic->dma - room->heard_end : 0, io->rate, io->channels, io->period_size,
         io->buffer_size);
    look(mic);
    arm(mic);
    return 0;
}

static int on_stop(snd_pcm_ioplug_t *io)
{
    struct microphone *mic = io->private_data;
    struct room *room = mic->room;
    /* A room that waits gives back what was copied ahead and never read. */
    if (mic->running && room->speed <= 0 && !room->resumes_at) {
        clock_changes(room);
        rebase(room, mic->dma - unread(mic), monotonic_ns());
        clock_changes(room);
        room->frontier = (uint64_t)room->base_frame;
    }
    let_run(room, NEVER);
    mic->running = false;
    arm(mic);
    return 0;
}

static int on_resume(snd_pcm_ioplug_t *io)
{
    struct microphone *mic = io->private_data;
    if (mic->ending != SUSPENDED)
        return 0;
    mic->ending = NONE;
    const int64_t now = monotonic_ns();
    const uint64_t frame = first_frame(mic, now);
    note(mic, "resume position=%" PRIu64 " lost=%" PRIu64, frame, frame - mic->dma);
    mic->jump_hw = mic->hw;
    mic->jump_frames = frame - mic->dma;
    mic->dma = frame;
    snd_pcm_ioplug_set_state(io, SND_PCM_STATE_RUNNING);
    arm(mic);
    return 0;
}

static snd_pcm_sframes_t on_pointer(snd_pcm_ioplug_t *io)
{
    struct microphone *mic = io->private_data;
    if (!mic->boundary)
        return 0;
    if (io->state == SND_PCM_STATE_DISCONNECTED || io->state == SND_PCM_STATE_SUSPENDED)
        return (snd_pcm_sframes_t)(mic->hw % mic->boundary);
    look(mic);
    show_ending(mic);
    uint64_t hw = mic->hw - unread(mic) + offered(mic, false);
    arm(mic);
    if (io->state == SND_PCM_STATE_XRUN)
        return -EPIPE;
    /* One frame that isn't there makes alsa-lib ask on_transfer for it, which returns the error. */
    if (mic->ending == FAILED && unread(mic) == 0)
        hw++;
    return (snd_pcm_sframes_t)(hw % mic->boundary);
}

static snd_pcm_sframes_t on_transfer(snd_pcm_ioplug_t *io, const snd_pcm_channel_area_t *areas,
                                     snd_pcm_uframes_t offset, snd_pcm_uframes_t size)
{
    struct microphone *mic = io->private_data;
    unsigned char *to = (unsigned char *)areas[0].addr + (areas[0].first + areas[0].step * offset) / 8;
    if (mic->ending == FAILED && unread(mic) == 0)
        return -EIO;
    snd_pcm_uframes_t slot = io->appl_ptr % io->buffer_size;
    snd_pcm_uframes_t upper = size < io->buffer_size - slot ? size : io->buffer_size - slot;
    memcpy(to, mic->ring + slot * mic->frame_bytes, upper * mic->frame_bytes);
    memcpy(to + upper * mic->frame_bytes, mic->ring, (size - upper) * mic->frame_bytes);

    mic->taking = size;
    uint64_t left = unread(mic), end = mic->dma - left;
    if (mic->hw - left <= mic->jump_hw)
        end -= mic->jump_frames;
    mic->room->heard_end = end;
    arm(mic);
    mic->taking = 0;
    return (snd_pcm_sframes_t)size;
}

static int on_poll_descriptors_count(snd_pcm_ioplug_t *io)
{
    (void)io;
    return 2;
}

static int on_poll_descriptors(snd_pcm_ioplug_t *io, struct pollfd *fds, unsigned int space)
{
    struct microphone *mic = io->private_data;
    if (space < 2)
        return -EINVAL;
    look(mic);
    arm(mic);
    fds[0] = (struct pollfd){.fd = mic->timer_fd, .events = POLLIN | POLLERR};
    fds[1] = (struct pollfd){.fd = mic->watch_fd, .events = POLLIN};
    return 2;
}

static int on_poll_revents(snd_pcm_ioplug_t *io, struct pollfd *fds, unsigned int count, unsigned short *revents)
{
    struct microphone *mic = io->private_data;
    if (count >= 2 && fds[1].revents & POLLIN) {
        char dropped[4096];
        while (read(mic->watch_fd, dropped, sizeof dropped) > 0)
            ;
        mic->script_read_ns = 0;
    }
    look(mic);
    show_ending(mic);
    *revents = 0;
    if (ready(mic, true))
        *revents = POLLIN;
    if (mic->ending != NONE && (mic->ending == FULL || unread(mic) == 0))
        *revents |= POLLERR;
    if (!*revents)
        mic->armed_ns = -1; /* set it even if nothing changed, so that a stale expiry ends here */
    arm(mic);
    return 0;
}

static void discard(struct microphone *mic)
{
    const int fds[] = {mic->source_fd, mic->script_fd, mic->timer_fd, mic->watch_fd, mic->journal_fd, mic->state_fd};
    if (mic->room)
        munmap(mic->room, sizeof *mic->room);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]); /* closing state_fd frees the device for the next one */
    free(mic->events);
    free(mic->ring);
    free(mic);
}

static int on_close(snd_pcm_ioplug_t *io)
{
    struct microphone *mic = io->private_data;
    if (mic->running)
        on_stop(io);
    note(mic, "close position=%" PRIu64, mic->room->frontier);
    discard(mic);
    return 0;
}

static const snd_pcm_ioplug_callback_t callbacks = {
    .start = on_start,
    .stop = on_stop,
    .pointer = on_pointer,
    .transfer = on_transfer,
    .close = on_close,
    .hw_params = on_hw_params,
    .sw_params = on_sw_params,
    .prepare = on_prepare,
    .resume = on_resume,
    .poll_descriptors_count = on_poll_descriptors_count,
    .poll_descriptors = on_poll_descriptors,
    .poll_revents = on_poll_revents,
};

/* --- opening ---------------------------------------------------------------------------------------------------- */

struct wishes {
    const char *room, *source, *format, *at_end;
    long source_offset, source_frames, source_channels;
    long period_least, period_most, buffer_most; /* bytes */
    unsigned int rates[MAX_LIST], channels[MAX_LIST];
    unsigned int rate_count, channel_count;
    double speed, drift_ppm;
    bool patient;
};

static int read_list(snd_config_t *node, unsigned int *list, unsigned int *count)
{
    snd_config_iterator_t i, next;
    snd_config_for_each(i, next, node) {
        long value;
        if (*count == MAX_LIST || snd_config_get_integer(snd_config_iterator_entry(i), &value) < 0)
            return -EINVAL;
        list[(*count)++] = (unsigned int)value;
    }
    return 0;
}

static int read_wishes(snd_config_t *conf, struct wishes *wishes)
{
    snd_config_iterator_t i, next;
    snd_config_for_each(i, next, conf) {
        snd_config_t *node = snd_config_iterator_entry(i);
        const char *id;
        int error = 0, truth;
        if (snd_config_get_id(node, &id) < 0 || !strcmp(id, "type") || !strcmp(id, "comment") || !strcmp(id, "hint"))
            continue;
        if (!strcmp(id, "room"))
            error = snd_config_get_string(node, &wishes->room);
        else if (!strcmp(id, "source"))
            error = snd_config_get_string(node, &wishes->source);
        else if (!strcmp(id, "source_offset"))
            error = snd_config_get_integer(node, &wishes->source_offset);
        else if (!strcmp(id, "source_frames"))
            error = snd_config_get_integer(node, &wishes->source_frames);
        else if (!strcmp(id, "source_channels"))
            error = snd_config_get_integer(node, &wishes->source_channels);
        else if (!strcmp(id, "format"))
            error = snd_config_get_string(node, &wishes->format);
        else if (!strcmp(id, "at_end"))
            error = snd_config_get_string(node, &wishes->at_end);
        else if (!strcmp(id, "period_least"))
            error = snd_config_get_integer(node, &wishes->period_least);
        else if (!strcmp(id, "period_most"))
            error = snd_config_get_integer(node, &wishes->period_most);
        else if (!strcmp(id, "buffer_most"))
            error = snd_config_get_integer(node, &wishes->buffer_most);
        else if (!strcmp(id, "rates"))
            error = read_list(node, wishes->rates, &wishes->rate_count);
        else if (!strcmp(id, "channels"))
            error = read_list(node, wishes->channels, &wishes->channel_count);
        else if (!strcmp(id, "speed"))
            error = snd_config_get_ireal(node, &wishes->speed);
        else if (!strcmp(id, "drift_ppm"))
            error = snd_config_get_ireal(node, &wishes->drift_ppm);
        else if (!strcmp(id, "patient")) {
            error = truth = snd_config_get_bool(node);
            wishes->patient = truth > 0;
        } else
            error = -EINVAL;
        if (error < 0) {
            SNDERR("the room's setting %s makes no sense", id);
            return -EINVAL;
        }
    }
    if (!wishes->room || !wishes->source || !wishes->rate_count || !wishes->channel_count || wishes->source_frames < 1 ||
        wishes->source_channels < 1 || wishes->source_channels > 64) {
        SNDERR("a room needs room, source, source_frames, source_channels, rates and channels");
        return -EINVAL;
    }
    return 0;
}

static int open_in(const char *directory, const char *name, int flags)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path)
        return -ENAMETOOLONG;
    int fd = open(path, flags | O_CLOEXEC, 0644);
    if (fd < 0)
        SNDERR("can't open %s: %s", path, strerror(errno));
    return fd;
}

/* Opens the files of the room and takes the device, for this handle alone. */
static int enter_room(struct microphone *mic, const struct wishes *wishes)
{
    char script[PATH_MAX];
    mic->state_fd = open_in(wishes->room, "state", O_RDWR | O_CREAT);
    if (mic->state_fd < 0)
        return -EIO;
    if (flock(mic->state_fd, LOCK_EX | LOCK_NB) < 0)
        return -EBUSY;
    if (ftruncate(mic->state_fd, sizeof *mic->room) < 0)
        return -EIO;
    mic->journal_fd = open_in(wishes->room, "journal", O_WRONLY | O_APPEND | O_CREAT);
    mic->script_fd = open_in(wishes->room, "script", O_RDONLY | O_CREAT);
    mic->source_fd = open(wishes->source, O_RDONLY | O_CLOEXEC);
    mic->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    mic->watch_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (mic->journal_fd < 0 || mic->script_fd < 0 || mic->source_fd < 0 || mic->timer_fd < 0 || mic->watch_fd < 0) {
        SNDERR("can't set up the room %s with %s: %s", wishes->room, wishes->source, strerror(errno));
        return -EIO;
    }
    snprintf(script, sizeof script, "%s/script", wishes->room);
    if (inotify_add_watch(mic->watch_fd, script, IN_MODIFY) < 0)
        return -EIO;
    struct room *room = mmap(NULL, sizeof *room, PROT_READ | PROT_WRITE, MAP_SHARED, mic->state_fd, 0);
    if (room == MAP_FAILED)
        return -EIO;
    mic->room = room;
    if (room->magic != STATE_MAGIC) {
        room->drift_ppm = mic->drift_ppm;
        room->returns_at = room->thaws_at = NEVER;
        room->latest_time = INFINITY;
        set_pace(mic, 0, monotonic_ns());
        room->magic = STATE_MAGIC;
    }
    return 0;
}

static int constrain(struct microphone *mic, const struct wishes *wishes)
{
    snd_pcm_ioplug_t *io = &mic->io;
    const unsigned int access[] = {SND_PCM_ACCESS_RW_INTERLEAVED, SND_PCM_ACCESS_MMAP_INTERLEAVED};
    const unsigned int format = !strcmp(wishes->format, "S32_LE") ? SND_PCM_FORMAT_S32_LE : SND_PCM_FORMAT_S16_LE;
    int error = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_ACCESS, 2, access);
    if (error >= 0)
        error = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_FORMAT, 1, &format);
    if (error >= 0)
        error = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_RATE, wishes->rate_count, wishes->rates);
    if (error >= 0)
        error = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_CHANNELS, wishes->channel_count, wishes->channels);
    if (error >= 0)
        error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_PERIOD_BYTES, (unsigned int)wishes->period_least,
                                                (unsigned int)wishes->period_most);
    if (error >= 0)
        error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_BUFFER_BYTES,
                                                2 * (unsigned int)wishes->period_least,
                                                (unsigned int)wishes->buffer_most);
    if (error >= 0)
        error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_PERIODS, 2, 1024);
    return error;
}

SND_PCM_PLUGIN_DEFINE_FUNC(simulated_room)
{
    (void)root;
    struct wishes wishes = {
        .format = "S16_LE", .at_end = "loop", .speed = 1,
        .period_least = 64, .period_most = 512 << 10, .buffer_most = 1 << 20};
    int error = read_wishes(conf, &wishes);
    if (error < 0)
        return error;
    if (stream != SND_PCM_STREAM_CAPTURE)
        return -ENOENT; /* a card without loudspeaker has no playback device */

    struct microphone *mic = calloc(1, sizeof *mic);
    if (!mic)
        return -ENOMEM;
    mic->state_fd = mic->source_fd = mic->script_fd = mic->journal_fd = mic->timer_fd = mic->watch_fd = -1;
    mic->source_offset = wishes.source_offset;
    mic->source_frames = (uint64_t)wishes.source_frames;
    mic->source_channels = (unsigned int)wishes.source_channels;
    mic->speed = wishes.speed;
    mic->drift_ppm = wishes.drift_ppm;
    mic->patient = wishes.patient;
    mic->at_end = !strcmp(wishes.at_end, "silence")  ? END_SILENCE
                  : !strcmp(wishes.at_end, "stall")  ? END_STALL
                  : !strcmp(wishes.at_end, "unplug") ? END_UNPLUG
                                                     : END_LOOP;
    mic->io.rate = wishes.rates[0];
    error = enter_room(mic, &wishes);
    if (error >= 0)
        error = read_script(mic);
    if (error < 0) {
        discard(mic);
        return error;
    }
    struct event first;
    next_event(mic, 0, &first);
    if (first.at == 0 && first.what == UNPLUG)
        begin_clock(mic, monotonic_ns());
    look(mic);
    if (mic->room->gone) {
        note(mic, "refused position=%" PRIu64, mic->room->frontier);
        discard(mic);
        return -ENODEV;
    }
    mic->dead = false;
    mic->ending = NONE;
    mic->io.version = SND_PCM_IOPLUG_VERSION;
    mic->io.name = "A simulated room with a microphone";
    mic->io.flags = SND_PCM_IOPLUG_FLAG_BOUNDARY_WA;
    mic->io.callback = &callbacks;
    mic->io.private_data = mic;
    error = snd_pcm_ioplug_create(&mic->io, name, stream, mode);
    if (error < 0) {
        discard(mic);
        return error;
    }
    note(mic, "open position=%" PRIu64, mic->room->frontier);
    error = constrain(mic, &wishes);
    if (error < 0) {
        snd_pcm_ioplug_delete(&mic->io);
        return error;
    }
    *pcmp = mic->io.pcm;
    return 0;
}
SND_PCM_PLUGIN_SYMBOL(simulated_room);
