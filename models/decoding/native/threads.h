// A pool of threads that run the phases of a step together.
//
// Threads take the tasks of a phase from a counter, so a thread with a busy core takes fewer tasks.
// Between phases the threads spin, because a phase is shorter than a sleep; between steps they
// sleep.

#pragma once

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>

namespace thumbloop {

constexpr int SPINS = 4000;  // about 50 µs
constexpr int CACHE_LINE = 64;  // bytes

static inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb" ::: "memory");
#endif
}

class Pool;

// The interface of the pool to one thread of a step.
class Team {
  public:
    Team(Pool& pool, int thread, int size) : thread(thread), size(size), pool_(pool) {}

    // Runs ``task(0) .. task(count - 1)`` on all threads; returns when all tasks are done.
    template <typename Task>
    inline void phase(int count, const Task& task);

    const int thread;
    const int size;

  private:
    Pool& pool_;
    unsigned phase_ = 0;
};

class Pool {
  public:
    typedef void (*Work)(void*, Team&);

    explicit Pool(int threads) : threads_(threads) {
        pthread_mutex_init(&lock_, nullptr);
        pthread_cond_init(&wake_, nullptr);
        workers_ = static_cast<pthread_t*>(malloc(threads * sizeof(pthread_t)));
        starts_ = static_cast<Start*>(malloc(threads * sizeof(Start)));
        for (int i = 1; i < threads; i++) {
            starts_[i] = {this, i};
            pthread_create(&workers_[i], nullptr, &Pool::thread_main, &starts_[i]);
        }
    }

    ~Pool() {
        pthread_mutex_lock(&lock_);
        closing_ = true;
        pthread_cond_broadcast(&wake_);
        pthread_mutex_unlock(&lock_);
        for (int i = 1; i < threads_; i++) pthread_join(workers_[i], nullptr);
        free(workers_);
        free(starts_);
        pthread_mutex_destroy(&lock_);
        pthread_cond_destroy(&wake_);
    }

    int threads() const { return threads_; }

    // Runs ``work(argument, team)`` on ``size`` threads, of which the caller is the first.
    void run(Work work, void* argument, int size) {
        __atomic_store_n(&counters_[0].value, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&done_.value, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&finished_.value, 0, __ATOMIC_RELAXED);
        pthread_mutex_lock(&lock_);
        work_ = work;
        argument_ = argument;
        size_ = size;
        __atomic_add_fetch(&step_, 1, __ATOMIC_RELEASE);
        pthread_cond_broadcast(&wake_);
        pthread_mutex_unlock(&lock_);
        Team team(*this, 0, size);
        work(argument, team);
        // The next step resets the counters, so every worker must have left this one.
        wait(finished_, (unsigned)(size - 1));
    }

  private:
    friend class Team;
    struct alignas(CACHE_LINE) Counter {
        unsigned value = 0;
    };
    struct Start {
        Pool* pool;
        int thread;
    };

    static void* thread_main(void* start) {
        Start* mine = static_cast<Start*>(start);
        mine->pool->work_loop(mine->thread);
        return nullptr;
    }

    void work_loop(int thread) {
        unsigned seen = 0;
        while (true) {
            pthread_mutex_lock(&lock_);
            while (!closing_ && step_ == seen) pthread_cond_wait(&wake_, &lock_);
            if (closing_) {
                pthread_mutex_unlock(&lock_);
                return;
            }
            seen = step_;
            Work work = work_;
            void* argument = argument_;
            const int size = size_;
            pthread_mutex_unlock(&lock_);
            if (thread >= size) continue;
            Team team(*this, thread, size);
            work(argument, team);
            __atomic_add_fetch(&finished_.value, 1, __ATOMIC_RELEASE);
        }
    }

    static void wait(const Counter& counter, unsigned least) {
        for (int spin = 0; __atomic_load_n(&counter.value, __ATOMIC_ACQUIRE) < least; spin++) {
            relax();
            if (spin >= SPINS) sched_yield();
        }
    }

    int threads_;
    pthread_t* workers_;
    Start* starts_;
    pthread_mutex_t lock_;
    pthread_cond_t wake_;
    bool closing_ = false;
    unsigned step_ = 0;
    Work work_ = nullptr;
    void* argument_ = nullptr;
    int size_ = 0;
    Counter counters_[2];  // tasks taken: one counter for even phases, one for odd ones
    Counter done_;         // phases completed in this step, summed over threads
    Counter finished_;     // workers that have left the step
};

template <typename Task>
inline void Team::phase(int count, const Task& task) {
    unsigned* taken = &pool_.counters_[phase_ & 1].value;
    unsigned* next_phase = &pool_.counters_[(phase_ + 1) & 1].value;
    // Every thread has left the previous phase, the last one to use the other counter.
    if (thread == 0) __atomic_store_n(next_phase, 0, __ATOMIC_RELAXED);
    while (true) {
        int next = (int)__atomic_fetch_add(taken, 1, __ATOMIC_RELAXED);
        if (next >= count) break;
        task(next);
    }
    phase_++;
    __atomic_add_fetch(&pool_.done_.value, 1, __ATOMIC_ACQ_REL);
    Pool::wait(pool_.done_, phase_ * size);
}

}  // namespace thumbloop
