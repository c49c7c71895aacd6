#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace heddle {

/// Work that a search leaves to other machines, in the same database as its records. A worker leases a job until a
/// deadline, which it moves on while it lives; what a dead worker had is leased again. A job ends by one statement that
/// names the lease, so that its result is kept once, whoever else was too late. Nothing listens on any port.
///
/// A worker that has said nothing for a day is forgotten, and so is a result that nobody has fetched for a month.
/// Times are the database's, which all machines share. Errors are those of RecordStore. Not for several threads at
/// once: each opens its own.
class JobQueue {
 public:
  explicit JobQueue(const std::string& url);
  ~JobQueue();
  JobQueue(JobQueue&&) noexcept;
  JobQueue& operator=(JobQueue&&) noexcept;

  struct Job {
    std::string key;     ///< equal keys are one job: a search that starts again finds its result
    std::string target;  ///< the kind of worker that may take it
    std::string payload;
  };
  /// Queues a job, unless its key is there already.
  void submit(const Job& job);

  /// A job that is a worker's until the deadline. `attempt` tells this lease from an earlier one of the same worker.
  struct Lease {
    std::int64_t id = 0;
    int attempt = 0;
    std::string worker;
    std::string payload;
  };
  /// The oldest job of a kind that waits, or whose worker has let its deadline pass; nothing where there is none.
  std::optional<Lease> claim(const std::string& target, const std::string& worker, double lease_seconds);
  /// Moves the deadline; false if the job is no longer this lease's.
  bool extend(const Lease& lease, double lease_seconds);
  /// Ends a job with its result; false if the job is no longer this lease's: then nothing is written.
  bool finish(const Lease& lease, const std::string& result);
  /// Gives a job back, as a worker that is told to stop does; the attempt does not count.
  void release(const Lease& lease);

  enum class State { queued, leased, done, lost };
  struct Status {
    State state = State::queued;
    int attempts = 0;
    std::string worker;  ///< who has it, or had it last
    std::string result;  ///< of a job that is done
  };
  /// Where a job stands. `lost`: `most_attempts` workers died with it, so that nobody takes it any more.
  std::optional<Status> status(const std::string& key) const;
  static constexpr int most_attempts = 5;

  /// Takes back a job that nobody has to do any more, done or not.
  void remove(const std::string& key);
  /// Takes back those of the keys that nobody has begun: what a worker is at, or has done, stays for a search that goes
  /// on.
  void withdraw(const std::vector<std::string>& keys);
  /// Takes back all jobs whose keys begin so: what is left of a search that is over.
  void remove_all(const std::string& key_prefix);
  int waiting(const std::string& target) const;  ///< jobs that are neither done nor lost
  /// Jobs that a worker could lease now.
  struct Free {
    std::string target;
    int jobs = 0;
  };
  std::vector<Free> free() const;  ///< by kind, the one whose oldest job waits longest first

  /// Says that a worker of a kind of machine lives. The description stays when the worker is gone, so that a search may
  /// be for a machine whose workers come later.
  void announce(const std::string& worker, const std::string& machine, const std::string& description);
  void leave(const std::string& worker);  ///< a worker ends as it should
  struct Machine {
    std::string name, description;
    int workers = 0;  ///< that said that they live within the last `lately_seconds`
  };
  std::vector<Machine> machines() const;  ///< every one that ever had a worker, by name
  static constexpr int lately_seconds = 60;

  /// User modules by the SHA-256 of their bytes; stored once. Returns the hash.
  std::string put_module(const std::string& bytes);
  std::string module(const std::string& hash) const;  ///< throws Error{not_found}, Error{corrupt}

 private:
  struct Connection;
  std::unique_ptr<Connection> connection_;
};

}  // namespace heddle
