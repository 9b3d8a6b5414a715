/*
 * Lease, lineage, commit and retention of an output, as two drivers work on it.
 *
 * Each driver gives the command again and again, up to LIVES times together. Between any two
 * requests it may be paused for as long as it likes (whoever runs next is open), or die. There is no
 * time here: that a holder was silent for a lease's length is true whenever it hasn't beaten between
 * two looks, so no property below rests on clocks.
 *
 * A generation is an attempt here: what fences a generation is the same record. Files are uploaded
 * before the commit begins. Requests that read what never changes are left out.
 *
 *   LATE   what was created is listed some time later, then for good; reads by name see it at once
 *   WEAK   an exclusive create isn't one: the last of two stands. Nothing is promised there but that
 *          no name is told by two drivers
 *   BUG_*  a planted bug; each has a property that it breaks (test_model.py)
 */

#define ATTEMPTS 3
#define STEPS 2
#ifndef LIVES
#define LIVES 3
#endif
#define NONE 255

#define AT(a, s) ((a) * (STEPS + 1) + (s))
#define PLACES ((ATTEMPTS + 1) * (STEPS + 1))
#define BIT(a, s) (1 << AT(a, s))
#define HAS(set, a, s) (((set) >> AT(a, s)) & 1)

/* -- the store; an index is an attempt, 0 the source */
byte lease[ATTEMPTS + 2];      /* which life wrote it; 0: there is none */
byte beat[ATTEMPTS + 2];
bool released[ATTEMPTS + 2];
byte took_over_at[ATTEMPTS + 2];
byte parent[ATTEMPTS + 2];
int manifests;               /* a set of BIT(attempt, step) */
byte pointer = 0;              /* AT(attempt, step); 0 names nothing */
byte listed_leases;            /* what listings show: sets by attempt, and by place */
byte listed_records;
int listed_manifests;

/* -- what nobody of them knows */
byte lives;
byte deaths;
int told;                    /* checkpoints that a driver has told to be saved */
byte teller[PLACES];           /* which life did */
byte forked_from[ATTEMPTS + 2];
byte forked_at[ATTEMPTS + 2];  /* the state that an attempt really began with */
bool parted[ATTEMPTS + 2];     /* who took workers over that another had begun with, unrecorded */
byte pointed_by;               /* the attempt that wrote the pointer */
byte obeyed;                   /* whom the workers obey; 0: there are none */
byte worked;                   /* the step at which they are */
byte silent[3];                /* a driver looks at a holder that has beaten since: NONE, else 0 */

/* What listings show of what has been created */
#ifdef LATE
#define SHOWN_LEASES listed_leases
#define SHOWN_RECORDS listed_records
#define SHOWN_MANIFESTS (manifests & listed_manifests)
#else
#define SHOWN_LEASES NONE
#define SHOWN_RECORDS NONE
#define SHOWN_MANIFESTS manifests
#endif

inline newest_lease(found) {
    found = ATTEMPTS + 1;
    do
    :: found > 0 && (lease[found] == 0 || !((SHOWN_LEASES >> found) & 1)) -> found--
    :: else -> break
    od
}

inline newest_record(found) {
    found = ATTEMPTS + 1;
    do
    :: found > 0 && (took_over_at[found] == NONE || !((SHOWN_RECORDS >> found) & 1)) -> found--
    :: else -> break
    od
}

/* The last step of `whose` that belongs to the run, seen from a record; NONE: it doesn't. */
inline bound_of(head, whose, found) {
    _at = head; _bound = STEPS; found = NONE;
    do
    :: _at == 0 || _at == whose ->
        if
        :: _at == whose -> found = _bound
        :: else
        fi;
        break
    :: else ->
        if
        :: took_over_at[_at] < _bound -> _bound = took_over_at[_at]
        :: else
        fi;
        _at = parent[_at]
    od;
    _at = 0; _bound = 0
}

/* Committed checkpoints that are listed, and that the lineage of `head` holds. */
inline in_lineage(head, set) {
    set = 0; _a = 1;
    do
    :: _a > ATTEMPTS -> break
    :: else ->
        bound_of(head, _a, _till);
#ifdef BUG_NO_LINEAGE
        _till = STEPS;
#endif
        _s = 1;
        do
        :: _till == NONE || _s > _till -> break
        :: else ->
            if
            :: HAS(SHOWN_MANIFESTS, _a, _s) -> set = set | BIT(_a, _s)
            :: else
            fi;
            _s++
        od;
        _a++
    od;
    _a = 0; _s = 0; _till = 0
}

inline newest_of(set, place) {
    place = PLACES - 1;
    do
    :: place > 0 && !((set >> place) & 1) -> place--
    :: else -> break
    od
}

/* Whether a state is one of those that led to (attempt, step), or is that one. */
inline led_to(earlier, earlier_at, later, later_at, found) {
    _at = later; _bound = later_at; found = 0;
    do
    :: _at == 0 -> break
    :: _at == earlier -> found = (earlier_at <= _bound); break
    :: else -> _bound = forked_at[_at]; _at = forked_from[_at]
    od;
    _at = 0; _bound = 0
}

/* Nothing that was told to be saved is lost: the run's newest attempt comes from it. */
inline told_is_kept() {
#ifdef WEAK
    skip
#else
    _head = ATTEMPTS + 1;
    do
    :: _head > 0 && took_over_at[_head] == NONE -> _head--
    :: else -> break
    od;
    _a = 1;
    do
    :: _a > ATTEMPTS -> break
    :: else ->
        _s = 1;
        do
        :: _s > STEPS -> break
        :: else ->
            if
            :: HAS(told, _a, _s) && _a != _head ->
                led_to(_a, _s, forked_from[_head], forked_at[_head], _yes);
                assert(_yes) /* what was told to be saved is lost */
            :: else
            fi;
            _s++
        od;
        _a++
    od;
    _a = 0; _s = 0; _yes = 0; _head = 0
#endif
}

/* What is gone on from is a state of the run as it went, not one of a branch that was left. */
inline of_the_run(newest, owner, reached) {
#ifdef WEAK
    skip
#else
    if
    :: owner != 0 && owner != newest && !parted[newest] ->
        led_to(owner, reached, forked_from[newest], forked_at[newest], _yes);
        assert(_yes) /* it goes on from a branch that was left */
    :: else
    fi;
    _yes = 0
#endif
}

/* Of what was told something is there that it led to, in the run's lineage. */
inline good_one_is_there() {
#ifdef WEAK
    skip
#else
    _head = ATTEMPTS + 1;
    do
    :: _head > 0 && took_over_at[_head] == NONE -> _head--
    :: else -> break
    od;
    newest_of(told, _place);
    if
    :: _place != 0 ->
        _good = 0; _q = 1;
        do
        :: _q >= PLACES -> break
        :: else ->
            if
            :: (manifests >> _q) & 1 ->
                bound_of(_head, _q / (STEPS + 1), _till);
                if
                :: _till != NONE && _q % (STEPS + 1) <= _till ->
                    led_to(_place / (STEPS + 1), _place % (STEPS + 1),
                           _q / (STEPS + 1), _q % (STEPS + 1), _yes);
                    _good = _good | _yes
                :: else
                fi
            :: else
            fi;
            _q++
        od;
        assert(_good) /* the newest good checkpoint is gone */
    :: else
    fi;
    _place = 0; _q = 0; _till = 0; _yes = 0; _good = 0; _head = 0
#endif
}

/* Who isn't followed points at what is there. */
inline pointer_is_right() {
#ifdef WEAK
    skip
#else
    assert(pointer == 0 || ((manifests >> pointer) & 1) || lease[pointed_by + 1] != 0)
    /* the pointer names what isn't there */
#endif
}

/* Whether a driver takes its own checkpoint for listed */
#ifdef BUG_NOT_LISTED
#define LISTED true
#else
#define LISTED HAS(set, mine, step)
#endif

#define DIES if \
    :: atomic { deaths > 0 -> deaths--; printf("@ %d dies\n", me); goto dead } \
    :: skip \
    fi

inline check(next) {
    atomic {
#ifdef BUG_NO_TOKEN
        lost = (lease[mine + 1] != 0);
#else
        lost = (lease[mine + 1] != 0 || lease[mine] != life);
#endif
        printf("@ %d check %d\n", me, !lost);
        if
        :: lost -> printf("@ %d lost\n", me); goto dead
        :: else
        fi
    }
}

inline point(place) {
    atomic {
        pointer = place; pointed_by = mine;
        printf("@ %d point %d %d\n", me, place / (STEPS + 1), place % (STEPS + 1));
        pointer_is_right()
    }
}

/* The oldest that goes comes first; one that isn't there any more ends the matter. */
inline next_going() {
    going_place = 1;
    do
    :: going == 0 -> going_place = 0; break
    :: going != 0 && ((going >> going_place) & 1) -> break
    :: else -> going_place++
    od;
    if
    :: going_place != 0 && !((manifests >> going_place) & 1) ->
        printf("@ %d gives_up\n", me); going = 0; going_place = 0
    :: else
    fi
}

inline look_at_lineage(head) {
    atomic {
        newest_record(head);
        printf("@ %d lineage %d\n", me, head)
    }
}

inline scan(head, set) {
    atomic {
        in_lineage(head, set);
        newest_of(set, _place);
        printf("@ %d scan %d %d\n", me, _place / (STEPS + 1), _place % (STEPS + 1));
        _place = 0
    }
}

proctype Driver(byte me) {
    byte life, mine, seen, watched, beat_then, head, from, step, place, going_place, _at, _bound,
        _a, _s, _till, _place, _q, _head;
    bool lost, adopts, _yes, _good;
    int set, going;

command:
    atomic {
        if
        :: lives < LIVES -> lives++; life = lives; printf("@ %d begins\n", me)
        :: else -> goto over
        fi
    };
#ifdef BUG_OLD_LOOK
    look_at_lineage(head);
    scan(head, set);
#endif
    /* -- lease: observe, wait for a lease's length, observe again, create */
    watched = NONE;
look:
    atomic {
        newest_lease(seen);
        printf("@ %d observe %d\n", me, seen);
        if
        :: seen == 0 || released[seen] -> watched = seen; beat_then = beat[seen]
        :: else ->
            if
            :: watched == NONE ->
                watched = seen; beat_then = beat[seen]; silent[me] = seen; seen = 0; goto look
            :: watched == seen && beat_then == beat[seen] -> skip
#ifdef BUG_ANY_BEAT
            :: watched == seen && beat_then != beat[seen] -> skip
#endif
            :: else -> printf("@ %d refused\n", me); goto dead
            fi;
            if
            :: silent[me] != NONE || released[seen] -> silent[me] = 0
            :: else
            fi
        fi;
        if
        :: seen == ATTEMPTS -> printf("@ %d dies\n", me); goto dead
        :: else
        fi
    };
    DIES;
    atomic {
        if
        :: lease[seen + 1] == 0 ->
            mine = seen + 1; lease[mine] = life; printf("@ %d lease %d 1\n", me, mine);
            assert(released[seen] || silent[me] != NONE) /* a driver that beats is followed */
        :: else ->
#ifdef WEAK
            mine = seen + 1; lease[mine] = life; printf("@ %d lease %d 1\n", me, mine)
#else
            printf("@ %d lease %d 0\n", me, seen + 1); seen = 0; goto look
#endif
        fi
    };
held:
    seen = 0; beat_then = 0; watched = 0; silent[me] = 0;
    check(0);
    DIES;
    atomic {
        beat[mine]++;
        printf("@ %d beat %d\n", me, mine);
        if
        :: silent[3 - me] == mine -> silent[3 - me] = NONE
        :: else
        fi
    };
    /* -- where to go on from */
    if
    :: obeyed != 0 -> adopts = true
    :: skip
    fi;
    if
    :: adopts ->
        DIES;
        atomic {
            if
            :: obeyed == 0 || obeyed > mine -> printf("@ %d dies\n", me); goto dead
            :: else
            fi;
            from = obeyed; step = worked; obeyed = mine;
            forked_from[mine] = from; forked_at[mine] = step;
            printf("@ %d adopts %d %d\n", me, from, step)
        }
    :: else ->
#ifndef BUG_OLD_LOOK
        look_at_lineage(head);
        scan(head, set);
#endif
        DIES;
        atomic {
            newest_of(set, place);
            from = place / (STEPS + 1); step = place % (STEPS + 1);
            if
            :: obeyed > mine -> printf("@ %d dies\n", me); goto dead
            :: else
            fi;
            forked_from[mine] = from; forked_at[mine] = step;
            obeyed = mine; worked = step;
            printf("@ %d restores %d %d\n", me, from, step);
            of_the_run(head, from, step);
            set = 0; place = 0; head = 0
        }
    fi;
    /* -- the take-over */
    look_at_lineage(head);
    DIES;
    atomic {
        if
        :: head >= mine && !(head == mine && took_over_at[mine] == step) ->
            printf("@ %d lost\n", me); goto dead
        :: head == mine && took_over_at[mine] == step -> skip
        :: else ->
            if
            :: adopts -> from = head
            :: else
            fi;
            bound_of(head, from, _till);
            if
            :: from != 0 && _till == NONE ->
                printf("@ %d later\n", me); goto dead
            :: else
            fi;
            took_over_at[mine] = step; parent[mine] = from;
            parted[mine] = (from != forked_from[mine] || (from != 0 && parted[from]));
            printf("@ %d takeover %d %d %d\n", me, mine, step, from);
            told_is_kept();
            good_one_is_there()
        fi;
        adopts = false; from = 0; head = 0; _till = 0
    };
    /* -- training and saving */
    do
    :: atomic { step < STEPS && obeyed == mine ->
            step++; worked = (worked > step -> worked : step) };
        check(1);
        look_at_lineage(head);
        atomic {
            bound_of(head, mine, _till);
            if
            :: head < mine -> printf("@ %d later\n", me); goto dead
            :: head >= mine && (_till == NONE || step > _till) ->
                printf("@ %d lost\n", me); goto dead
            :: else
            fi;
            _till = 0
        };
#ifdef BUG_POINTER_FIRST
        point(AT(mine, step));
#endif
        DIES;
        atomic {
            manifests = manifests | BIT(mine, step);
            printf("@ %d manifest %d %d\n", me, mine, step)
        };
#if defined(BUG_CHECK_BEFORE_LISTING)
        check(2);
        scan(head, set);
#else
        scan(head, set);
#endif
        if
        :: !LISTED -> atomic { printf("@ %d doubts\n", me); goto dead }
        :: LISTED ->
#if !defined(BUG_CHECK_BEFORE_LISTING) && !defined(BUG_NO_SECOND_CHECK)
            check(2);
#endif
            newest_of(set, place);
            if
            :: place != 0 -> DIES; point(place)
            :: else
            fi;
            place = 0;
            DIES;
            atomic {
                assert(teller[AT(mine, step)] == 0 || teller[AT(mine, step)] == life);
                /* one name was told by two */
                told = told | BIT(mine, step); teller[AT(mine, step)] = life;
                printf("@ %d told %d %d\n", me, mine, step);
                told_is_kept();
                good_one_is_there();
                set = 0; head = 0
            };
            /* -- retention: the newest alone is kept */
            check(3);
            look_at_lineage(head);
            scan(head, set);
            atomic {
                newest_of(set, place);
                going = (HAS(set, mine, step) -> set & ~(1 << place) : 0);
#ifdef BUG_OLDEST
                going = (going != 0 -> 1 << place : 0);
                newest_of(set & ~going, place);
#endif
                set = 0; head = 0
            };
            if
            :: going != 0 ->
#ifndef BUG_NO_CHECK_BEFORE_DELETING
                check(4);
#endif
                DIES;
                atomic { point(place); next_going() }
            :: else
            fi;
            do
            :: going == 0 -> break
            :: else ->
                DIES;
                atomic {
                    going = going & ~(1 << going_place);
                    manifests = manifests & ~(1 << going_place);
                    listed_manifests = listed_manifests & ~(1 << going_place);
                    printf("@ %d delete %d %d\n", me, going_place / (STEPS + 1),
                           going_place % (STEPS + 1));
                    next_going();
                    pointer_is_right();
                    good_one_is_there()
                }
            od;
            place = 0; going_place = 0
        fi
    :: break
    od;
    /* -- the end in order */
    atomic {
        lost = (lease[mine] != life);
        printf("@ %d rival %d\n", me, lost);
        if
        :: lost -> goto dead
        :: else
        fi
    };
    DIES;
    atomic { released[mine] = true; printf("@ %d release %d\n", me, mine) };
dead:
    atomic {
        life = 0; mine = 0; seen = 0; watched = 0; beat_then = 0; head = 0; from = 0; step = 0;
        place = 0; going_place = 0; lost = false; adopts = false; set = 0; going = 0;
        _at = 0; _bound = 0; _a = 0; _s = 0; _till = 0; _place = 0; _q = 0; _head = 0;
        _yes = false; _good = false; silent[me] = 0
    };
    goto command;
over:
    skip
}

#ifdef LATE
#define LISTS_ATTEMPT(a) \
    :: atomic { lease[a] != 0 && !((listed_leases >> a) & 1) -> \
        listed_leases = listed_leases | (1 << a); printf("@ 0 list lease %d\n", a) } \
    :: atomic { took_over_at[a] != NONE && !((listed_records >> a) & 1) -> \
        listed_records = listed_records | (1 << a); printf("@ 0 list record %d\n", a) }
#define LISTS_SAVE(a, s) \
    :: atomic { HAS(manifests & ~listed_manifests, a, s) -> \
        listed_manifests = listed_manifests | BIT(a, s); \
        printf("@ 0 list manifest %d %d\n", a, s) }

/* Something is listed from now on. */
proctype Listing() {
end:
    do
    LISTS_ATTEMPT(1)
    LISTS_ATTEMPT(2)
    LISTS_ATTEMPT(3)
    LISTS_SAVE(1, 1)
    LISTS_SAVE(1, 2)
    LISTS_SAVE(2, 1)
    LISTS_SAVE(2, 2)
    LISTS_SAVE(3, 1)
    LISTS_SAVE(3, 2)
    od
}
#endif

init {
    atomic {
        byte i = 0;
        do
        :: i <= ATTEMPTS + 1 -> took_over_at[i] = NONE; i++
        :: else -> break
        od;
#ifdef DEATHS
        deaths = DEATHS;
#else
        deaths = 1;
#endif
        i = 0;
        run Driver(1);
        run Driver(2);
#ifdef LATE
        run Listing();
#endif
    }
}
