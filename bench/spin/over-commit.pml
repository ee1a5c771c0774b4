/*
 * The case cases/over-commit.yaml in Promela, for comparison: a map of PAGES scattered pages under a limit of LIMIT pages, beside
 * a reader of mmap_sem. DEFER=1: a failed trylock puts the update into a work item (variant D). DEFER=0: the lock is waited
 * for, and the limit tested again under it (variant E). One statement for each step that other actors of the model can see;
 * a step of the model is an atomic block here.
 */
#ifndef PAGES
#define PAGES 2
#endif
#ifndef LIMIT
#define LIMIT 1
#endif
#ifndef DEFER
#define DEFER 1
#endif

byte readers = 0;      /* mmap_sem held for read */
bool writer = false;   /* mmap_sem held for write */
byte locked_vm = 0;
byte pinned = 0;
byte held = 0;         /* pages of a map that has returned success: the oracle's ledger */
bool failed = false;

#define FREE (readers == 0 && !writer)

inline down_write() { atomic { FREE -> writer = true } }
inline up_write() { writer = false }

proctype kworker(byte pages) {
  down_write();
  locked_vm = locked_vm + pages;
  up_write()
}

/* One page is one chunk: its own test against the limit, its own accounting. */
proctype mapper() {
  byte page = 0;
  byte v;
  bool got;
  do
  :: page < PAGES ->
    v = locked_vm;                       /* the unlocked test */
    if
    :: v + 1 > LIMIT -> failed = true; break
    :: else
    fi;
    pinned++;
#if DEFER
    atomic { got = FREE; if :: got -> writer = true :: else fi };
    if
    :: got -> locked_vm++; up_write()
    :: else -> run kworker(1)
    fi;
#else
    down_write();
    if
    :: locked_vm + 1 > LIMIT -> failed = true
    :: else -> locked_vm++
    fi;
    up_write();
    if :: failed -> pinned--; break :: else fi;
#endif
    page++
  :: else -> break
  od;
  if
  :: failed && page > 0 ->
    /* What was mapped is taken back, in one accounting call. */
    pinned = pinned - page;
#if DEFER
    atomic { got = FREE; if :: got -> writer = true :: else fi };
    if
    :: got -> locked_vm = locked_vm - page; up_write()
    :: else -> run kworker(255 - page + 1)   /* minus page, modulo 256 */
    fi
#else
    down_write();
    locked_vm = locked_vm - page;
    up_write()
#endif
  :: failed && page == 0
  :: else ->
    held = page;
    assert(held <= LIMIT)                /* limit-bypass */
  fi
}

proctype reader() {
  atomic { !writer -> readers++ };
  readers--
}

init { atomic { run mapper(); run reader() } }
